//! Running the binary, and files to run it on.

use idlora::format::checkpoint::{Checkpoint, Weight};
use idlora::{Dtype, Elem, Mat, bf16, f16, with_weight};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Layer 0 of all-MiniLM-L6-v2: what the README's first command runs on.
pub const MINILM: &str = "tests/data/minilm-layer0.safetensors";
pub const QUERY: &str = "encoder.layer.0.attention.self.query.weight";

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idlora"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// Runs the binary in the repository's root.
pub fn idlora<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Outcome {
    let Output { status, stdout, stderr } = command().args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let outcome = Outcome { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) };
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    outcome
}

/// The arguments of `line`, split at spaces, with `{name}` replaced by paths.
pub fn run(line: &str, paths: &[(&str, &Path)]) -> Outcome {
    let replaced = line.split_whitespace().map(|word| {
        paths
            .iter()
            .fold(word.to_owned(), |word, (name, path)| word.replace(&format!("{{{name}}}"), path.to_str().unwrap()))
    });
    idlora(replaced)
}

/// Runs what must succeed.
#[track_caller]
pub fn succeed(line: &str, paths: &[(&str, &Path)]) -> Outcome {
    let outcome = run(line, paths);
    assert_eq!(outcome.code, 0, "{line}: {outcome:?}");
    outcome
}

/// Runs what must be refused: exit code 1, nothing on stdout, and one line that says all of `expected`.
#[track_caller]
pub fn refuse(line: &str, paths: &[(&str, &Path)], expected: &[&str]) -> Outcome {
    let outcome = run(line, paths);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{line}: {outcome:?}");
    let error: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(error.len(), 1, "{line}: {outcome:?}");
    assert!(outcome.stderr.ends_with(&format!("{}\n", error[0])), "the error comes last: {outcome:?}");
    for part in expected {
        assert!(error[0].contains(part), "{line}: no `{part}` in {}", error[0]);
    }
    outcome
}

/// Runs `init --json` and returns the object.
#[track_caller]
pub fn init_json(line: &str, paths: &[(&str, &Path)]) -> Value {
    serde_json::from_str(&succeed(line, paths).stdout).expect("stdout is one JSON object")
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Names in a folder, hidden ones included.
pub fn entries(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A tensor for [`save`], rounded to its element type.
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Tensor {
    pub fn matrix(name: &str, dtype: Dtype, values: &Mat<f64>) -> Self {
        let shape = vec![values.rows(), values.cols()];
        Self { name: name.to_owned(), dtype, shape, values: values.data().to_vec() }
    }

    pub fn vector(name: &str, dtype: Dtype, values: &[f64]) -> Self {
        Self { name: name.to_owned(), dtype, shape: vec![values.len()], values: values.to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let values = self.values.iter().map(|&x| x as f32);
        match self.dtype {
            Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
            Dtype::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
        }
    }
}

/// Writes a safetensors file with the reference implementation.
pub fn save(path: &Path, tensors: &[Tensor]) {
    use safetensors::tensor::{Dtype as Stored, TensorView};
    let bytes: Vec<Vec<u8>> = tensors.iter().map(Tensor::bytes).collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        let dtype = match tensor.dtype {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::BF16,
        };
        (tensor.name.clone(), TensorView::new(dtype, tensor.shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Reads a tensor, exactly.
pub fn load(path: &Path, name: &str) -> Mat<f64> {
    to_f64(&Checkpoint::open(path).unwrap().read(name).unwrap())
}

pub fn to_f64(weight: &Weight) -> Mat<f64> {
    with_weight!(weight, w => {
        let data = w.data().iter().map(|x| f64::from(x.to_f32())).collect();
        Mat::from_vec(data, w.rows(), w.cols()).unwrap()
    })
}

/// Names in a file, sorted.
pub fn names(path: &Path) -> Vec<String> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut names: Vec<String> = checkpoint.tensors().iter().map(|tensor| tensor.name.clone()).collect();
    names.sort();
    names
}

/// The same tensors in another element type, transposed where asked.
pub fn converted(from: &Path, to: &Path, dtype: Dtype, transposed: bool) {
    let checkpoint = Checkpoint::open(from).unwrap();
    let tensors: Vec<Tensor> = checkpoint
        .tensors()
        .iter()
        .map(|tensor| {
            let weight = checkpoint.read(&tensor.name).unwrap();
            let weight = if transposed { weight.transposed().unwrap() } else { weight };
            Tensor::matrix(&tensor.name, dtype, &to_f64(&weight))
        })
        .collect();
    save(to, &tensors);
}

/// A small file of one layer's names: two matrices, an embedding, a bias, and a matrix with few rows.
pub fn small_model(path: &Path, dtype: Dtype, draw: &mut crate::common::matrices::Draw) {
    save(
        path,
        &[
            Tensor::matrix("embed_tokens.weight", dtype, &draw.gaussian(100, 16)),
            Tensor::matrix("layer.0.q_proj.weight", dtype, &draw.gaussian(48, 16)),
            Tensor::vector("layer.0.q_proj.bias", dtype, draw.gaussian(1, 48).data()),
            Tensor::matrix("layer.0.down_proj.weight", dtype, &draw.gaussian(16, 40)),
            Tensor::matrix("layer.0.up_proj.weight", dtype, &draw.gaussian(64, 16)),
        ],
    );
}

pub fn manifest_path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}
