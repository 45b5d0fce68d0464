//! One module as a plain LoRA.

use super::{OP, tensor_name};
use crate::adapter::{Config, DigestRows, IdLora, check_finite};
use crate::elem::{Dtype, Elem, bf16, f16};
use crate::error::{Error, Result, check_shape};
use crate::format::checkpoint::{Checkpoint, TensorInfo, Weight};
use crate::lowrank::Gate;
use crate::mat::{Mat, MatRef, zeroed};
use crate::with_weight;

/// The factors of one module, made from the very weight that its adapter was made from: `ΔW = κ B A`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    name: String,
    a: Mat<f32>,
    b: Mat<f32>,
    in_out: bool,
}

impl Lora {
    /// From the base weight `W [m, n]` in memory. One pass over it, for the digest.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the gate is static, [`Error::Shape`] if `w` is not `[m, n]`, [`Error::Digest`] if it is
    /// another weight than the adapter was made from, [`Error::OutOfMemory`].
    pub fn of<T: Elem>(adapter: &IdLora, w: MatRef<'_, T>) -> Result<Self> {
        check_gate(adapter)?;
        check_shape(OP, "w", (adapter.rows(), adapter.cols()), w.shape())?;
        let mut rows = Rows::<T>::new(adapter)?;
        w.iter_rows().for_each(|row| rows.add(row));
        rows.finish(adapter)
    }

    /// From the base weight in a checkpoint, one row in memory at a time; from one stored `[in, out]` (GPT-2's Conv1D), with
    /// all of it in memory, twice. The digest tells the two apart.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the gate is static, [`Error::Format`] where the checkpoint holds no tensor of the
    /// adapter's name, shape and element type, [`Error::Digest`] if it is another weight, [`Error::Io`], [`Error::OutOfMemory`].
    pub fn read(adapter: &IdLora, weights: &Checkpoint) -> Result<Self> {
        check_gate(adapter)?;
        let (tensor, dtype) = find(adapter, weights)?;
        let (rows, cols) = (adapter.rows(), adapter.cols());
        let mut mismatch = None;
        if tensor.shape == [rows, cols] {
            let as_stored = match dtype {
                Dtype::F16 => read_rows::<f16>(adapter, weights, tensor),
                Dtype::BF16 => read_rows::<bf16>(adapter, weights, tensor),
                Dtype::F32 => read_rows::<f32>(adapter, weights, tensor),
            };
            match as_stored {
                Err(error @ Error::Digest { .. }) if rows == cols => mismatch = Some(error),
                decided => return decided,
            }
        }
        let turned = weights.read(adapter.name())?.transposed()?;
        match with_weight!(&turned, w => Self::of(adapter, w.as_ref())) {
            Ok(lora) => Ok(Self { in_out: true, ..lora }),
            // A square weight that matches neither way: the usual layout is the one to speak of.
            Err(error) => Err(mismatch.unwrap_or(error)),
        }
    }

    /// The module's name in the adapter.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `A = Σ_i ᾱ_i W[S_i]`, `[r, n]`: summed in f64 in the order of the row numbers, rounded once.
    pub fn a(&self) -> MatRef<'_, f32> {
        self.a.as_ref()
    }

    /// `I_s⊗B`, `[m, r]`.
    pub fn b(&self) -> MatRef<'_, f32> {
        self.b.as_ref()
    }

    /// Whether the weight was found stored `[in, out]`.
    pub fn in_out(&self) -> bool {
        self.in_out
    }

    /// Refuses the factors of another module.
    pub(super) fn check_module(&self, adapter: &IdLora) -> Result<()> {
        let found = (self.name(), self.b.rows(), self.a.cols(), self.a.rows());
        if found == (adapter.name(), adapter.rows(), adapter.cols(), adapter.config().rank) {
            return Ok(());
        }
        let reason = format!("are those of `{}`, asked for were those of `{}`", self.name(), adapter.name());
        Err(Error::operand(OP, "factors", reason))
    }

    /// `A` and `B` as the file will have them.
    pub(super) fn stored(&self, path: &str, dtype: Dtype) -> Result<[Weight; 2]> {
        let rounded = |factor: &str, values: &Mat<f32>| {
            let weight = match dtype {
                Dtype::F16 => Weight::F16(narrowed(values)?),
                Dtype::BF16 => Weight::BF16(narrowed(values)?),
                Dtype::F32 => Weight::F32(values.clone()),
            };
            with_weight!(&weight, w => check_finite(OP, || tensor_name(path, factor), w.as_ref()))?;
            Ok::<_, Error>(weight)
        };
        Ok([rounded("lora_A", &self.a)?, rounded("lora_B", &self.b)?])
    }
}

fn narrowed<T: Elem + Default>(values: &Mat<f32>) -> Result<Mat<T>> {
    let mut out = Mat::zeros(values.rows(), values.cols())?;
    T::narrow(values.data(), out.data_mut());
    Ok(out)
}

/// Refuses gates for which there is no `A`.
pub(super) fn check_gate(adapter: &IdLora) -> Result<()> {
    let gate = adapter.config().gate;
    if gate == Gate::Static {
        return Ok(());
    }
    Err(Error::unsupported(
        OP,
        format!(
            "module `{}` has the gate `{}`, which weighs the components anew for every token, so no single A stands for them \
             and the adapter is no plain LoRA; only a static gate can be exported, as only it can be merged",
            adapter.name(),
            gate.name()
        ),
    ))
}

/// The adapter's tensor, in one of the two layouts and of the right element type.
fn find<'a>(adapter: &IdLora, weights: &'a Checkpoint) -> Result<(&'a TensorInfo, Dtype)> {
    let (name, rows, cols) = (adapter.name(), adapter.rows(), adapter.cols());
    let refuse = |reason: String| Err(Error::format(weights.path(), reason));
    let Some(tensor) = weights.find(name) else {
        return refuse(format!("holds no tensor `{name}`"));
    };
    if tensor.shape != [rows, cols] && tensor.shape != [cols, rows] {
        let found = &tensor.shape;
        return refuse(format!("tensor `{name}` has shape {found:?}, the adapter was made from [{rows}, {cols}]"));
    }
    if tensor.weight_dtype() != Some(adapter.dtype()) {
        let (found, expected) = (&tensor.dtype, adapter.dtype().name());
        return refuse(format!("tensor `{name}` has element type {found}, the adapter was made from {expected}"));
    }
    Ok((tensor, adapter.dtype()))
}

fn read_rows<T: Elem + Default>(adapter: &IdLora, weights: &Checkpoint, tensor: &TensorInfo) -> Result<Lora> {
    let mut rows = Rows::<T>::new(adapter)?;
    weights.for_each_row(tensor, adapter.cols(), |row| rows.add(row))?;
    rows.finish(adapter)
}

/// Takes the rows of `W` in order: all of them into the digest, the chosen ones into `A`.
struct Rows<T> {
    digest: DigestRows,
    a: Mat<f64>,
    /// Of every chosen row: its number, the row of `A` that it goes into, and its component's weight. Descending, so that the
    /// next one is the last.
    chosen: Vec<(u32, usize, f64)>,
    next: u32,
    wide: Vec<f32>,
    element: std::marker::PhantomData<T>,
}

impl<T: Elem> Rows<T> {
    fn new(adapter: &IdLora) -> Result<Self> {
        let (rank, cols) = (adapter.config().rank, adapter.cols());
        let weights = adapter.gate().row(0);
        let place = |(at, &row): (usize, &u32)| (row, at % rank, f64::from(weights[at / rank]));
        let mut chosen: Vec<(u32, usize, f64)> = adapter.skeleton().iter().enumerate().map(place).collect();
        chosen.sort_unstable_by_key(|&(row, ..)| std::cmp::Reverse(row));
        Ok(Self {
            digest: DigestRows::new(T::DTYPE, adapter.rows(), cols),
            a: Mat::zeros(rank, cols)?,
            chosen,
            next: 0,
            wide: zeroed("a row of a weight", cols)?,
            element: std::marker::PhantomData,
        })
    }

    fn add(&mut self, row: &[T]) {
        self.digest.add(row);
        if let Some(&(number, into, weight)) = self.chosen.last()
            && number == self.next
        {
            self.chosen.pop();
            T::widen(row, &mut self.wide);
            for (sum, &x) in self.a.row_mut(into).iter_mut().zip(&self.wide) {
                *sum += weight * f64::from(x); // the product is exact
            }
        }
        self.next += 1;
    }

    fn finish(self, adapter: &IdLora) -> Result<Lora> {
        adapter.check_digest(T::DTYPE, self.digest.finish())?;
        let mut a = Mat::zeros(self.a.rows(), self.a.cols())?;
        a.data_mut().iter_mut().zip(self.a.data()).for_each(|(to, &sum)| *to = sum as f32);
        Ok(Lora { name: adapter.name().to_owned(), a, b: block_diagonal(adapter)?, in_out: false })
    }
}

/// `I_s⊗B`, written out.
fn block_diagonal(adapter: &IdLora) -> Result<Mat<f32>> {
    let Config { rank, .. } = *adapter.config();
    let b = adapter.b();
    let (height, width) = b.shape();
    let mut out = Mat::zeros(adapter.rows(), rank)?;
    for i in 0..adapter.rows() {
        let left = i / height * width;
        out.row_mut(i)[left..left + width].copy_from_slice(b.row(i % height));
    }
    Ok(out)
}
