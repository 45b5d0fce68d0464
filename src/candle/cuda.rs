//! A call on candle's CUDA devices: this crate's kernels on candle's own memory and on its stream. Nothing is copied and nothing
//! waits; the base product becomes the adapted output in place.

use super::branch::{Branch, Gradients, Operand, Saved, Tracked};
use super::tensor::{Element, refused, with_element};
use crate::cuda::Cuda;
use crate::cuda::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, ValidAsZeroBits};
use crate::device::Device;
use crate::error::Result as OurResult;
use crate::lowrank::Plan;
use crate::lowrank::resident::{self, Backward, Forward, InputGradient, Layer, Output, Parameters, SavedMut, Skeleton};
use crate::resident::{MatMut, MatRef, Workspace};
use candle_core::cuda_backend::{CudaDType, DeviceId};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, InplaceOp1, Layout, Result, Shape, Storage, StorageRef, Tensor,
};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// An element of candle's CUDA tensors.
pub(super) trait OnCuda: CudaDType + DeviceRepr + ValidAsZeroBits {}

impl OnCuda for f32 {}
impl OnCuda for half::f16 {}
impl OnCuda for half::bf16 {}

/// What all layers on one of candle's devices share: its stream with the kernels loaded on it, and memory between kernels, as
/// large as the largest call so far has needed.
#[derive(Debug)]
struct Shared {
    cuda: Cuda,
    device: Device,
    workspace: Mutex<Option<Workspace>>,
}

/// What a layer has on its device. `None` before its first call there.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<Arc<Resident>>>);

#[derive(Debug)]
struct Resident {
    shared: Arc<Shared>,
    plan: Plan,
    skeleton: Skeleton,
}

/// A panic elsewhere leaves what is behind these locks whole: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// That of a device: the same one as long as a layer has it.
    fn of(device: &CudaDevice) -> OurResult<Arc<Self>> {
        static OPENED: Mutex<Vec<(DeviceId, Weak<Shared>)>> = Mutex::new(Vec::new());
        let mut opened = lock(&OPENED);
        opened.retain(|(_, shared)| shared.strong_count() > 0);
        let known = opened.iter().find(|(id, _)| *id == device.id());
        if let Some(shared) = known.and_then(|(_, shared)| shared.upgrade()) {
            return Ok(shared);
        }
        let cuda = Cuda::on_stream(device.cuda_stream())?;
        let shared = Arc::new(Self { device: Device::Cuda(cuda.clone()), cuda, workspace: Mutex::default() });
        opened.push((device.id(), Arc::downgrade(&shared)));
        Ok(shared)
    }

    /// Runs with at least so many bytes of workspace, which the next call has too. Calls take turns: they are on one stream.
    fn with_workspace(&self, bytes: usize, run: impl FnOnce(&mut Workspace) -> OurResult<()>) -> OurResult<()> {
        let mut place = lock(&self.workspace);
        // A smaller one goes first, in the order of the stream, so that both are never there together.
        let mut workspace = match place.take().filter(|workspace| workspace.bytes() >= bytes) {
            Some(workspace) => workspace,
            None => Workspace::new(&self.device, bytes)?,
        };
        run(&mut workspace)?;
        // After an error it may hold anything, and goes.
        *place = Some(workspace);
        Ok(())
    }
}

impl Cache {
    fn of(&self, branch: &Branch, device: &CudaDevice) -> OurResult<Arc<Resident>> {
        let mut place = lock(&self.0);
        if let Some(resident) = place.as_ref().filter(|resident| *resident.plan.desc() == branch.desc) {
            return Ok(Arc::clone(resident));
        }
        let shared = Shared::of(device)?;
        let plan = Plan::new(&shared.device, branch.desc)?;
        let skeleton = Skeleton::new(&plan, branch.frozen.skeleton())?;
        Ok(Arc::clone(place.insert(Arc::new(Resident { shared, plan, skeleton }))))
    }
}

impl Resident {
    fn parameters<'a>(
        &'a self,
        branch: &Branch,
        b: &'a CudaView<'_, f32>,
        gate: &'a CudaView<'_, f32>,
    ) -> OurResult<Parameters<'a>> {
        let desc = branch.desc;
        let (rows, cols) = desc.gate.parameter_shape(desc.rank, desc.components, desc.cols);
        Ok(Parameters {
            skeleton: &self.skeleton,
            b: self.matrix(b, desc.rows / desc.split, desc.rank / desc.split)?,
            gate: self.matrix(gate, rows, cols)?,
            scale: branch.frozen.scale(),
        })
    }

    fn matrix<'a, T>(&'a self, view: &'a CudaView<'_, T>, rows: usize, cols: usize) -> OurResult<MatRef<'a, T>> {
        MatRef::from_cuda(&self.shared.cuda, view, rows, cols, cols)
    }

    fn matrix_mut<'a, T>(&'a self, slice: &'a mut CudaSlice<T>, rows: usize, cols: usize) -> OurResult<MatMut<'a, T>> {
        MatMut::from_cuda(&self.shared.cuda, slice, rows, cols, cols)
    }
}

/// The adapted output `[t, m]`.
pub(super) fn forward(
    branch: &Branch,
    x: Operand<'_, CudaStorage>,
    b: Operand<'_, CudaStorage>,
    gate: Operand<'_, CudaStorage>,
) -> Result<CudaStorage> {
    with_element!(branch.frozen.dtype(), T => forward_of::<T>(branch, x, b, gate))
}

fn forward_of<T: Element>(
    branch: &Branch,
    x: Operand<'_, CudaStorage>,
    b: Operand<'_, CudaStorage>,
    gate: Operand<'_, CudaStorage>,
) -> Result<CudaStorage> {
    let (desc, tokens, device) = (branch.desc, branch.tokens, x.0.device.clone());
    let resident = branch.frozen.cuda.of(branch, &device).map_err(refused)?;
    let mut y = take::<T>(branch.take_base()?)?;
    let (h, b, gate) = (view::<T>(x.0, x.1)?, view(b.0, b.1)?, view(gate.0, gate.1)?);
    let weight = branch.frozen.weight().storage_and_layout();
    let w = on_cuda::<T>(&weight)?;
    let bias = branch.frozen.bias().map(Tensor::storage_and_layout);
    let bias = bias.as_ref().map(on_cuda::<T>).transpose()?;
    let mut kept = match branch.keep {
        true => Some((
            zeros::<T>(&device, tokens * branch.width())?,
            zeros::<f32>(&device, tokens * desc.components)?,
            zeros::<f32>(&device, tokens * desc.rank)?,
        )),
        false => None,
    };
    let launch = |workspace: &mut Workspace| {
        let layer = Layer {
            h: Some(resident.matrix(&h, tokens, desc.cols)?),
            w: Some(resident.matrix(&w, desc.rows, desc.cols)?),
            bias: bias.as_ref().map(|bias| resident.matrix(bias, 1, desc.rows)).transpose()?,
            dropout: branch.dropout,
        };
        let saved = match &mut kept {
            Some((x, gate, z)) => Some(SavedMut {
                x: resident.matrix_mut(x, tokens, branch.width())?,
                gate: resident.matrix_mut(gate, tokens, desc.components)?,
                z: Some(resident.matrix_mut(z, tokens, desc.rank)?),
            }),
            None => None,
        };
        let output = Output::InPlace(resident.matrix_mut(&mut y, tokens, desc.rows)?);
        let parameters = resident.parameters(branch, &b, &gate)?;
        resident.plan.launch_forward(&mut [Forward { parameters, layer, output, saved }], workspace)
    };
    let bytes = resident.plan.workspace_bytes(branch.frozen.dtype(), tokens, 1);
    resident.shared.with_workspace(bytes, launch).map_err(refused)?;
    if let Some((x, gate, z)) = kept {
        branch.save(Saved {
            x: tensor(x, &device, (tokens, branch.width())),
            gate: tensor(gate, &device, (tokens, desc.components)),
            z: Some(tensor(z, &device, (tokens, desc.rank))),
        })?;
    }
    Ok(CudaStorage::wrap_cuda_slice(y, device))
}

/// The gradients of a call; see [`Branch::gradients`].
pub(super) fn backward(branch: &Branch, tracked: &Tracked<'_>, g: Tensor, wants_x: bool) -> Result<Gradients> {
    with_element!(branch.frozen.dtype(), T => backward_of::<T>(branch, tracked, g, wants_x))
}

/// Memory that a backward writes.
struct Written<T> {
    b: CudaSlice<f32>,
    gate: CudaSlice<f32>,
    h_gate: Option<CudaSlice<T>>,
    /// `G`, which `dX` is added to, or `dX` alone.
    input: CudaSlice<T>,
}

impl<T: Element> Written<T> {
    /// `g` given up where the gradient of `x` is wanted.
    fn new(branch: &Branch, device: &CudaDevice, g: Option<Tensor>) -> Result<Self> {
        let (desc, tokens) = (branch.desc, branch.tokens);
        let (rows, cols) = desc.gate.parameter_shape(desc.rank, desc.components, desc.cols);
        Ok(Self {
            b: zeros(device, desc.rows / desc.split * (desc.rank / desc.split))?,
            gate: zeros(device, rows * cols)?,
            h_gate: match desc.gate.reads_input() && g.is_some() {
                true => Some(zeros(device, tokens * desc.cols)?),
                false => None,
            },
            input: match g {
                Some(g) => take(g)?,
                None => zeros(device, tokens * branch.width())?,
            },
        })
    }

    fn gradients(self, branch: &Branch, device: &CudaDevice, wants_x: bool) -> Gradients {
        let (desc, tokens) = (branch.desc, branch.tokens);
        Gradients {
            b: tensor(self.b, device, (desc.rows / desc.split, desc.rank / desc.split)),
            gate: tensor(self.gate, device, desc.gate.parameter_shape(desc.rank, desc.components, desc.cols)),
            h_gate: self.h_gate.map(|share| tensor(share, device, (tokens, desc.cols))),
            base: wants_x.then(|| tensor(self.input, device, (tokens, desc.rows))),
        }
    }
}

fn backward_of<T: Element>(branch: &Branch, tracked: &Tracked<'_>, g: Tensor, wants_x: bool) -> Result<Gradients> {
    let (desc, tokens) = (branch.desc, branch.tokens);
    let device = g.device().as_cuda_device()?.clone();
    let resident = branch.frozen.cuda.of(branch, &device).map_err(refused)?;
    let (given, shared) = if wants_x { (Some(g), None) } else { (None, Some(g)) };
    let mut written = Written::<T>::new(branch, &device, given)?;
    let shared = shared.as_ref().map(Tensor::storage_and_layout);
    let shared = shared.as_ref().map(on_cuda::<T>).transpose()?;
    let [x, b, gate] = [tracked.x, tracked.b, tracked.gate].map(Tensor::storage_and_layout);
    let (h, b, gate) = (on_cuda::<T>(&x)?, on_cuda(&b)?, on_cuda(&gate)?);
    let kept = branch.kept()?;
    let [kept_x, kept_gate] = [&kept.x, &kept.gate].map(Tensor::storage_and_layout);
    let (kept_x, kept_gate) = (on_cuda::<T>(&kept_x)?, on_cuda::<f32>(&kept_gate)?);
    let kept_z = kept.z.as_ref().map(Tensor::storage_and_layout);
    let kept_z = kept_z.as_ref().map(on_cuda::<f32>).transpose()?;
    let launch = |workspace: &mut Workspace| {
        let Written { b: of_b, gate: of_gate, h_gate, input } = &mut written;
        let saved = resident::Saved {
            x: resident.matrix(&kept_x, tokens, branch.width())?,
            gate: resident.matrix(&kept_gate, tokens, desc.components)?,
            z: kept_z.as_ref().map(|z| resident.matrix(z, tokens, desc.rank)).transpose()?,
        };
        let input = match &shared {
            Some(g) => InputGradient::Separate {
                g: resident.matrix(g, tokens, desc.rows)?,
                dx: resident.matrix_mut(input, tokens, branch.width())?,
            },
            None => InputGradient::Scatter(resident.matrix_mut(input, tokens, desc.rows)?),
        };
        let (rows, cols) = desc.gate.parameter_shape(desc.rank, desc.components, desc.cols);
        let gradients = resident::Gradients {
            b: resident.matrix_mut(of_b, desc.rows / desc.split, desc.rank / desc.split)?,
            gate: resident.matrix_mut(of_gate, rows, cols)?,
            h_gate: h_gate.as_mut().map(|share| resident.matrix_mut(share, tokens, desc.cols)).transpose()?,
            accumulate: false,
        };
        let h = Some(resident.matrix(&h, tokens, desc.cols)?);
        let layer = Layer { h, w: None, bias: None, dropout: branch.dropout };
        let parameters = resident.parameters(branch, &b, &gate)?;
        resident.plan.launch_backward(&mut [Backward { parameters, layer, saved, input, gradients }], workspace)
    };
    let bytes = resident.plan.workspace_bytes(branch.frozen.dtype(), tokens, 1);
    resident.shared.with_workspace(bytes, launch).map_err(refused)?;
    Ok(written.gradients(branch, &device, wants_x))
}

/// At least one element: the driver allocates nothing for nothing.
fn zeros<T: OnCuda>(device: &CudaDevice, len: usize) -> Result<CudaSlice<T>> {
    device.alloc_zeros(len.max(1))
}

/// A tensor outside candle's graph. An empty one has an element of memory, which its layout does not reach.
fn tensor<T: OnCuda>(slice: CudaSlice<T>, device: &CudaDevice, shape: (usize, usize)) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
    Tensor::from_storage(Storage::Cuda(storage), Shape::from(shape), BackpropOp::none(), false)
}

/// The elements of a contiguous tensor.
fn view<'a, T: OnCuda>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, T>> {
    let all = storage.as_cuda_slice::<T>()?;
    let view = layout.contiguous_offsets().and_then(|(start, end)| all.try_slice(start..end));
    view.ok_or_else(|| candle_core::Error::msg("candle layer: a tensor is not contiguous, or larger than its memory"))
}

/// The elements behind a read lock.
fn on_cuda<'a, T: OnCuda>((storage, layout): &'a (StorageRef<'_>, &Layout)) -> Result<CudaView<'a, T>> {
    match &**storage {
        Storage::Cuda(storage) => view(storage, layout),
        _ => Err(candle_core::Error::msg("candle layer: expected a tensor on a CUDA device")),
    }
}

/// The memory of a tensor that nobody else holds: see [`super::tensor::take`].
struct Take<T>(Mutex<Option<CudaSlice<T>>>);

impl<T: OnCuda> InplaceOp1 for Take<T> {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        Err(candle_core::Error::msg("candle layer: expected a tensor on a CUDA device"))
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> Result<()> {
        let spare = zeros::<T>(&storage.device, 1)?;
        *lock(&self.0) = Some(mem::replace(storage.as_cuda_slice_mut::<T>()?, spare));
        Ok(())
    }
}

/// The memory of a contiguous tensor that is given up: no copy, if it begins with the tensor. The caller has made it and shares
/// it with nobody.
fn take<T: OnCuda>(tensor: Tensor) -> Result<CudaSlice<T>> {
    let tensor = if tensor.is_contiguous() && tensor.layout().start_offset() == 0 {
        tensor
    } else {
        tensor.force_contiguous()?
    };
    let take = Take(Mutex::new(None));
    tensor.inplace_op1(&take)?;
    let taken = take.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    taken.ok_or_else(|| candle_core::Error::msg("candle layer: candle has not run an operation"))
}
