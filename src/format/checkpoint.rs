//! Pretrained weights: a safetensors file, or a checkpoint split over several with a `*.index.json`.
//!
//! Opening reads headers only; [`Checkpoint::read`] seeks to one tensor and reads it. Files are not mapped, because a
//! map of a file that shrinks kills the process, and so that memory holds what is worked on and nothing else.

use super::header::{Entry, Header};
use crate::elem::{Dtype, Elem, bf16, f16};
use crate::error::{Error, Result};
use crate::mat::{Mat, MatMut, zeroed};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Name, element type and shape of a tensor, as the file declares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name.
    pub name: String,
    /// Element type as safetensors spells it: `F32`, `BF16`, `I64`, …
    pub dtype: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of data.
    pub bytes: u64,
    pub(super) shard: usize,
    /// First byte in its file.
    pub(super) begin: u64,
}

impl TensorInfo {
    /// The element type, where it is one that weights may have.
    pub fn weight_dtype(&self) -> Option<Dtype> {
        match self.dtype.as_str() {
            "F16" => Some(Dtype::F16),
            "BF16" => Some(Dtype::BF16),
            "F32" => Some(Dtype::F32),
            _ => None,
        }
    }
}

/// A weight in the element type of its file. [`with_weight!`](crate::with_weight) runs generic code on it.
#[derive(Clone, Debug, PartialEq)]
pub enum Weight {
    /// IEEE binary16.
    F16(Mat<f16>),
    /// bfloat16.
    BF16(Mat<bf16>),
    /// IEEE binary32.
    F32(Mat<f32>),
}

/// Evaluates an expression on the matrix inside a [`Weight`](crate::format::checkpoint::Weight), whatever its element type.
///
/// ```
/// use idlora::{Mat, format::checkpoint::Weight, with_weight};
/// let weight = Weight::F32(Mat::zeros(3, 2)?);
/// assert_eq!(with_weight!(&weight, w => w.shape()), (3, 2));
/// # Ok::<(), idlora::Error>(())
/// ```
#[macro_export]
macro_rules! with_weight {
    ($weight:expr, $mat:ident => $body:expr) => {
        match $weight {
            $crate::format::checkpoint::Weight::F16($mat) => $body,
            $crate::format::checkpoint::Weight::BF16($mat) => $body,
            $crate::format::checkpoint::Weight::F32($mat) => $body,
        }
    };
}

impl Weight {
    /// `(rows, cols)`.
    pub fn shape(&self) -> (usize, usize) {
        with_weight!(self, w => w.shape())
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F16(_) => Dtype::F16,
            Self::BF16(_) => Dtype::BF16,
            Self::F32(_) => Dtype::F32,
        }
    }

    /// `[cols, rows]`: turns a weight stored `[in, out]` (GPT-2's Conv1D) into `[out, in]`, and back.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn transposed(&self) -> Result<Self> {
        Ok(match self {
            Self::F16(w) => Self::F16(transpose(w)?),
            Self::BF16(w) => Self::BF16(transpose(w)?),
            Self::F32(w) => Self::F32(transpose(w)?),
        })
    }

    /// Row and column of the first NaN or infinity, and the entry.
    pub fn first_non_finite(&self) -> Option<(usize, usize, f32)> {
        with_weight!(self, w => (0..w.rows()).find_map(|i| {
            w.row(i).iter().map(|x| x.to_f32()).enumerate().find(|(_, x)| !x.is_finite()).map(|(j, x)| (i, j, x))
        }))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        with_weight!(self, w => bytemuck::cast_slice(w.data()))
    }
}

fn transpose<T: Elem + Default>(w: &Mat<T>) -> Result<Mat<T>> {
    // Square tiles, so that neither side is walked with a stride longer than a tile.
    const TILE: usize = 32;
    let (rows, cols) = w.shape();
    let mut out = Mat::zeros(cols, rows)?;
    let mut view: MatMut<'_, T> = out.as_mut();
    for top in (0..rows).step_by(TILE) {
        for left in (0..cols).step_by(TILE) {
            for j in left..cols.min(left + TILE) {
                let to = &mut view.row_mut(j)[top..rows.min(top + TILE)];
                for (to, i) in to.iter_mut().zip(top..) {
                    *to = w.row(i)[j];
                }
            }
        }
    }
    Ok(out)
}

/// The tensors of a model, on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<PathBuf>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, or a sharded checkpoint by its `*.index.json`
    /// (`{"weight_map": {tensor: file beside the index}}`). Reads headers only.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read, [`Error::Format`] where one is not what it should be: empty, truncated,
    /// corrupt, of another format, a shard or a tensor missing, a shard outside the index's folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Err(Error::format(path, "is a folder; name the .safetensors file or the .index.json in it"));
        }
        if path.extension().is_some_and(|extension| extension == "json") { open_index(path) } else { open_single(path) }
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor, in the order of the data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// What the file says about itself (`__metadata__`); for several shards, what any of them says.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensor of this name.
    pub fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// The file that holds a tensor.
    pub(super) fn shard(&self, tensor: &TensorInfo) -> &Path {
        &self.shards[tensor.shard]
    }

    /// Reads one tensor: a matrix as it is, a vector of length m as `[1, m]`.
    ///
    /// # Errors
    /// [`Error::Format`] if there is no such tensor, it is not F16, BF16 or F32, or has more than two dimensions;
    /// [`Error::Io`] if reading fails; [`Error::OutOfMemory`].
    pub fn read(&self, name: &str) -> Result<Weight> {
        let tensor = self.find(name).ok_or_else(|| Error::format(&self.path, format!("holds no tensor `{name}`")))?;
        let (rows, cols) = match tensor.shape[..] {
            [cols] => (1, cols),
            [rows, cols] => (rows, cols),
            _ => {
                let reason = format!("tensor `{name}` has shape {:?}; a matrix or a vector is needed", tensor.shape);
                return Err(Error::format(&self.path, reason));
            }
        };
        match tensor.weight_dtype() {
            Some(Dtype::F16) => Ok(Weight::F16(self.read_elements(tensor, rows, cols)?)),
            Some(Dtype::BF16) => Ok(Weight::BF16(self.read_elements(tensor, rows, cols)?)),
            Some(Dtype::F32) => Ok(Weight::F32(self.read_elements(tensor, rows, cols)?)),
            None => Err(Error::format(
                &self.path,
                format!("tensor `{name}` has element type {}; only F16, BF16 and F32 can be read", tensor.dtype),
            )),
        }
    }

    /// Hands the rows of a matrix to `each`, in order, holding one at a time. `T` is its element type, `cols` its second size.
    pub(super) fn for_each_row<T: Elem + Default>(
        &self,
        tensor: &TensorInfo,
        cols: usize,
        mut each: impl FnMut(&[T]),
    ) -> Result<()> {
        let path = self.shard(tensor);
        let failed = |error| Error::io(path, "reading a tensor", error);
        let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
        file.seek(SeekFrom::Start(tensor.begin)).map_err(failed)?;
        let mut row: Vec<T> = zeroed("a row of a weight", cols)?;
        for _ in 0..tensor.shape[0] {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut row);
            file.read_exact(bytes).map_err(failed)?;
            if cfg!(target_endian = "big") {
                bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
            }
            each(&row);
        }
        Ok(())
    }

    fn read_elements<T: Elem + Default>(&self, tensor: &TensorInfo, rows: usize, cols: usize) -> Result<Mat<T>> {
        let path = self.shard(tensor);
        let mut data: Vec<T> = zeroed("weight", rows.saturating_mul(cols))?;
        let mut file = File::open(path).map_err(|error| Error::io(path, "opening", error))?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut data);
        file.seek(SeekFrom::Start(tensor.begin))
            .and_then(|_| file.read_exact(bytes))
            .map_err(|error| Error::io(path, "reading a tensor", error))?;
        if cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        Mat::from_vec(data, rows, cols)
    }
}

fn read_header(path: &Path) -> Result<Header> {
    let file = File::open(path).map_err(|error| Error::io(path, "opening", error))?;
    let bytes = file.metadata().map_err(|error| Error::io(path, "reading", error))?.len();
    Header::read(&mut BufReader::new(file), bytes).map_err(|reason| Error::format(path, reason))
}

fn tensor_of(entry: Entry, shard: usize) -> TensorInfo {
    let Entry { name, dtype, shape, begin, bytes } = entry;
    TensorInfo { name, dtype, shape, bytes, shard, begin }
}

fn open_single(path: &Path) -> Result<Checkpoint> {
    let header = read_header(path)?;
    let tensors = header.entries.into_iter().map(|entry| tensor_of(entry, 0)).collect();
    Ok(assemble(path, vec![path.to_owned()], tensors, header.metadata))
}

fn assemble(
    path: &Path,
    shards: Vec<PathBuf>,
    tensors: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
) -> Checkpoint {
    let by_name = tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.clone(), index)).collect();
    Checkpoint { path: path.to_owned(), shards, tensors, by_name, metadata }
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn open_index(path: &Path) -> Result<Checkpoint> {
    let text = std::fs::read(path).map_err(|error| Error::io(path, "opening", error))?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|error| Error::format(path, format!("not an index of a sharded checkpoint: {error}")))?;
    // Shards in the order of their names, tensors in the order of the data.
    let mut by_shard: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, shard) in &index.weight_map {
        by_shard.entry(shard).or_default().push(tensor);
    }
    if by_shard.is_empty() {
        return Err(Error::format(path, "its weight_map is empty"));
    }
    let (mut shards, mut tensors, mut metadata) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (name, members) in by_shard {
        let shard = shard_path(path, name)?;
        if !shard.exists() {
            return Err(Error::format(path, format!("shard `{name}` is missing: {} is not there", shard.display())));
        }
        let header = read_header(&shard)?;
        let mut entries: HashMap<String, (usize, Entry)> =
            header.entries.into_iter().enumerate().map(|(at, entry)| (entry.name.clone(), (at, entry))).collect();
        let mut found = Vec::with_capacity(members.len());
        for member in members {
            found.push(entries.remove(member).ok_or_else(|| {
                Error::format(path, format!("tensor `{member}` should be in shard `{name}`, which does not hold it"))
            })?);
        }
        found.sort_by_key(|&(at, _)| at);
        tensors.extend(found.into_iter().map(|(_, entry)| tensor_of(entry, shards.len())));
        metadata.extend(header.metadata);
        shards.push(shard);
    }
    Ok(assemble(path, shards, tensors, metadata))
}

/// A shard is a plain file name beside its index: an index from elsewhere must not make us read anything else.
fn shard_path(index: &Path, name: &str) -> Result<PathBuf> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => Ok(index.with_file_name(name)),
        _ => Err(Error::format(index, format!("shard `{name}` is not the name of a file beside the index"))),
    }
}
