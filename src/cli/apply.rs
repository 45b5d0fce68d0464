//! `idlora apply`.

use super::args::Apply;
use super::{Failure, Result, merge, output};
use idlora::adapter::{IdLora, Layer};
use idlora::format::checkpoint::{Checkpoint, Weight};
use idlora::format::{native, write_new_file};
use idlora::lowrank::{Bias, DownProjection, InputGradient, Output, Saved, SavedMut};
use idlora::{Elem, Error, Mat, MatRef, with_weight};
use safetensors::tensor::{Dtype as StoredDtype, TensorView};
use std::any::Any;
use std::io::Write;

pub fn run(args: &Apply) -> Result<()> {
    output::check_free(&args.out)?;
    let adapter = find_module(native::load(&args.dir)?, &args.module, args)?;
    let input = Checkpoint::open(&args.input)?;
    let y0 = read(&input, "y0")?;
    let tensors = with_weight!(y0, y0 => apply(args, adapter, &input, y0))?;
    write(args, &tensors)?;
    let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name).collect();
    output::print(&format!("{} written to {}\n", names.join(", "), args.out.display()))
}

fn find_module(adapters: Vec<IdLora>, name: &str, args: &Apply) -> Result<IdLora> {
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.name().to_owned()).collect();
    let wanted = |adapter: &IdLora| adapter.name() == name || adapter.name().strip_suffix(".weight") == Some(name);
    adapters.into_iter().find(wanted).ok_or_else(|| {
        let names = names.join(", ");
        Failure::command(format!("{} has no module `{name}`; it has: {names}", args.dir.display()))
    })
}

/// A tensor to be written.
struct Tensor {
    name: &'static str,
    dtype: StoredDtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn of<T: Elem>(name: &'static str, matrix: MatRef<'_, T>) -> Self {
        let dtype = match T::DTYPE {
            idlora::Dtype::F16 => StoredDtype::F16,
            idlora::Dtype::BF16 => StoredDtype::BF16,
            idlora::Dtype::F32 => StoredDtype::F32,
        };
        let mut bytes: Vec<u8> = matrix.iter_rows().flat_map(|row| bytemuck::cast_slice(row).iter().copied()).collect();
        if cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(T::DTYPE.size()).for_each(<[u8]>::reverse);
        }
        Self { name, dtype, shape: vec![matrix.rows(), matrix.cols()], bytes }
    }
}

/// Reads a tensor of IN, all of whose entries must be finite.
fn read(input: &Checkpoint, name: &str) -> Result<Weight> {
    let weight = input.read(name)?;
    match weight.first_non_finite() {
        Some((row, col, value)) => {
            Err(Error::NonFinite { op: "apply", operand: name.to_owned(), row, col, value }.into())
        }
        None => Ok(weight),
    }
}

/// Reads a tensor of IN, if it is there, which must have the element type of `y0`.
fn read_as<T: Elem>(input: &Checkpoint, name: &str) -> Result<Option<Mat<T>>> {
    input.find(name).map(|_| typed(read(input, name)?, name, input)).transpose()
}

fn typed<T: Elem>(weight: Weight, name: &str, source: &Checkpoint) -> Result<Mat<T>> {
    let found = weight.dtype();
    let matrix: Box<dyn Any> = with_weight!(weight, w => Box::new(w));
    matrix.downcast::<Mat<T>>().map(|matrix| *matrix).map_err(|_| {
        let path = source.path().display();
        Failure::command(format!(
            "{path}: `{name}` has element type {}, `y0` {}; they must agree",
            found.name(),
            T::DTYPE.name()
        ))
    })
}

fn apply<T: Elem + Default>(args: &Apply, mut adapter: IdLora, input: &Checkpoint, y0: Mat<T>) -> Result<Vec<Tensor>> {
    let (t, rank, components) = (y0.rows(), adapter.config().rank, adapter.config().clusters);
    let h = read_as::<T>(input, "h")?;
    let bias = read_as::<T>(input, "bias")?;
    let grad = read_as::<T>(input, "grad")?;
    let w = match &args.weights {
        Some(path) => {
            let base = Checkpoint::open(path)?;
            let (weight, _) = merge::oriented(base.read(adapter.name())?, &adapter)?;
            Some(typed::<T>(weight, adapter.name(), &base)?)
        }
        None => None,
    };
    let down = if w.is_some() { DownProjection::Gemm } else { DownProjection::Gather };
    let reads_h = adapter.config().gate.reads_input() || w.is_some();
    if reads_h && h.is_none() {
        let reader = if w.is_some() { "the explicit down-projection" } else { "a linear gate" };
        return Err(Failure::command(format!("{}: `h` [t, n] is missing; {reader} reads it", input.path().display())));
    }
    let layer = Layer {
        h: h.as_ref().filter(|_| reads_h).map(Mat::as_ref),
        w: w.as_ref().map(Mat::as_ref),
        bias: bias.as_ref().map(Mat::data),
        dropout: None,
    };
    let base_bias = if bias.is_some() { Bias::Included } else { Bias::None };

    let mut x = Mat::<T>::zeros(t, components * rank)?;
    let mut gate = Mat::<f32>::zeros(t, components)?;
    let mut y = Mat::<T>::zeros(t, y0.cols())?;
    let out = Output::OutOfPlace { y0: y0.as_ref(), y: y.as_mut() };
    let saved = SavedMut { x: x.as_mut(), gate: gate.as_mut(), z: None };
    adapter.forward(&args.device, down, base_bias, &layer, out, Some(saved))?;
    let z = premix(&x, &gate, rank)?;
    let mut tensors = vec![Tensor::of("y", y.as_ref()), Tensor::of("z", z.as_ref()), Tensor::of("gate", gate.as_ref())];
    let Some(mut grad) = grad else { return Ok(tensors) };

    let linear = adapter.config().gate.reads_input();
    let mut h_gate = if linear { Some(Mat::<T>::zeros(t, adapter.cols())?) } else { None };
    let saved = Saved { x: x.as_ref(), gate: gate.as_ref(), z: None };
    let into = InputGradient::Scatter(grad.as_mut());
    adapter.backward(&args.device, down, base_bias, &layer, saved, into, h_gate.as_mut().map(Mat::as_mut))?;
    let [b, gate] = adapter.parameters();
    tensors.push(Tensor::of("grad_b", b.gradient));
    tensors.push(Tensor::of("grad_gate", gate.gradient));
    tensors.push(Tensor::of("grad_y0", grad.as_ref()));
    tensors.extend(h_gate.as_ref().map(|h_gate| Tensor::of("grad_h_gate", h_gate.as_ref())));
    Ok(tensors)
}

/// `z = Σ_i a_i ⊙ X_i`, which the forward keeps to itself.
fn premix<T: Elem>(x: &Mat<T>, gate: &Mat<f32>, rank: usize) -> idlora::Result<Mat<f32>> {
    let mut z = Mat::zeros(x.rows(), rank)?;
    for token in 0..x.rows() {
        for (x, &a) in x.row(token).chunks_exact(rank).zip(gate.row(token)) {
            for (z, x) in z.row_mut(token).iter_mut().zip(x) {
                *z += a * x.to_f32();
            }
        }
    }
    Ok(z)
}

fn write(args: &Apply, tensors: &[Tensor]) -> Result<()> {
    let broken = |error: safetensors::SafeTensorError| Failure::command(format!("{}: {error}", args.out.display()));
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).map_err(broken)?;
        views.push((tensor.name, view));
    }
    let bytes = safetensors::serialize(views, None).map_err(broken)?;
    write_new_file(&args.out, |file| {
        let path = args.out.clone();
        file.write_all(&bytes).map_err(|source| Error::Io { path, action: "writing", source })
    })?;
    Ok(())
}
