//! Plans: a checked problem on a device with its chosen rows, and the two directions of a step.

use crate::adapter::idlora_adapter;
use crate::choices::{Choice, by_dtype};
use crate::device::idlora_device;
use crate::host;
use crate::memory::{Workspace, idlora_workspace};
use crate::operands::{idlora_backward_operands, idlora_forward_operands};
use crate::pointer::{self, Growing, Handle, Place};
use crate::status::{Answer, answer};
use idlora::lowrank::{self, Desc};
use idlora::{Device, Dtype};

/// A module on a device, checked once: its shape, its gate, its chosen rows (on a device: uploaded), the factor on its update.
pub struct idlora_plan {
    _opaque: (),
}

impl Handle for idlora_plan {
    type Value = Plan;
    const TAG: u64 = 0x6964_6c6f_7261_0006;
    const NAME: &'static str = "idlora_plan";
}

pub(crate) struct Plan {
    pub plan: lowrank::Plan,
    pub skeleton: Vec<u32>,
    pub scale: f32,
    pub device: Device,
    /// The chosen rows on the device; `None` on "cpu".
    #[cfg(any(feature = "cuda", feature = "vm"))]
    pub there: Option<lowrank::resident::Skeleton>,
}

/// A module without a handle of its adapter: for trainers that keep row numbers, B and gate in files of their own.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_module {
    /// sizeof(idlora_module).
    pub struct_size: usize,
    /// m, output features.
    pub rows: usize,
    /// n, input features.
    pub cols: usize,
    /// r; k * r is at most m.
    pub rank: usize,
    /// k.
    pub components: usize,
    /// s; divides r and m.
    pub split: usize,
    /// Chosen rows of W, [k, r] row-major, all distinct, in host memory. Copied.
    pub skeleton: *const u32,
    /// The factor on the update.
    pub scale: f32,
    /// An idlora_gate.
    pub gate: u32,
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers alone.
unsafe impl Growing for idlora_module {
    const NAME: &'static str = "idlora_module";
    const FIRST: usize = size_of::<Self>();
}

impl Plan {
    fn new(device: &Device, desc: Desc, skeleton: &[u32], scale: f32) -> Answer<Self> {
        let plan = lowrank::Plan::new(device, desc)?;
        check_skeleton(&desc, skeleton, scale)?;
        Ok(Self {
            #[cfg(any(feature = "cuda", feature = "vm"))]
            there: match device {
                Device::Cpu => None,
                _ => Some(lowrank::resident::Skeleton::new(&plan, skeleton)?),
            },
            plan,
            skeleton: skeleton.to_vec(),
            scale,
            device: device.clone(),
        })
    }

    fn workspace_bytes(&self, dtype: Dtype, tokens: usize) -> usize {
        match &self.device {
            Device::Cpu => 0,
            #[cfg(any(feature = "cuda", feature = "vm"))]
            _ => self.plan.workspace_bytes(dtype, tokens, 1),
            #[cfg(not(any(feature = "cuda", feature = "vm")))]
            _ => {
                let _ = (dtype, tokens);
                0
            }
        }
    }
}

/// What the library checks at every call, once before the first: by a forward of no tokens.
fn check_skeleton(desc: &Desc, skeleton: &[u32], scale: f32) -> Answer {
    use idlora::{Mat, MatMut};
    // Gate and shape alone decide what is refused here; `Gather` and no bias want no further operand.
    let (down, bias) = (lowrank::DownProjection::Gather, lowrank::Bias::None);
    let gate = lowrank::Gate::Static;
    let plan = lowrank::Plan::new(&Device::Cpu, Desc { down, bias, gate, ..*desc })?;
    let b = Mat::<f32>::zeros(desc.rows / desc.split, desc.rank / desc.split)?;
    let gate = Mat::<f32>::zeros(1, desc.components)?;
    let parameters = lowrank::Parameters { skeleton, b: b.as_ref(), gate: gate.as_ref(), scale };
    let layer = lowrank::Layer::<f32> { h: None, w: None, bias: None, dropout: None };
    let output = lowrank::Output::InPlace(MatMut::new(&mut [], 0, desc.rows)?);
    Ok(plan.forward(&parameters, &layer, output, None)?)
}

/// Plans an adapter's module on a device. `down` is an idlora_down, `bias` an idlora_bias. The plan copies what it needs; B
/// and the gate's parameters come with every call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_plan_create(
    device: *const idlora_device,
    adapter: *const idlora_adapter,
    down: u32,
    bias: u32,
    plan: *mut *mut idlora_plan,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_plan_create: handles, and a place for one.
        let (place, device, adapter) = unsafe {
            (Place::of_handle("plan", plan)?, pointer::shared("device", device)?, pointer::shared("adapter", adapter)?)
        };
        let (lora, config) = (&adapter.lora, adapter.lora.config());
        let desc = Desc {
            rows: lora.rows(),
            cols: lora.cols(),
            rank: config.rank,
            components: config.clusters,
            split: config.split,
            gate: config.gate,
            down: Choice::of("down", down)?,
            bias: Choice::of("bias", bias)?,
        };
        place.put(pointer::give(Plan::new(device, desc, lora.skeleton(), lora.scale())?));
        Ok(())
    })
}

/// The same for a module that the caller describes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_plan_module(
    device: *const idlora_device,
    module: *const idlora_module,
    down: u32,
    bias: u32,
    plan: *mut *mut idlora_plan,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_plan_module: a handle, a struct, and a place for a handle.
        let (place, device, module) = unsafe {
            (Place::of_handle("plan", plan)?, pointer::shared("device", device)?, pointer::read("module", module)?)
        };
        let desc = Desc {
            rows: module.rows,
            cols: module.cols,
            rank: module.rank,
            components: module.components,
            split: module.split,
            gate: Choice::of("gate", module.gate)?,
            down: Choice::of("down", down)?,
            bias: Choice::of("bias", bias)?,
        };
        // Before k * r is believed.
        lowrank::Plan::new(device, desc)?;
        // SAFETY: header, idlora_module: `skeleton` has k * r numbers.
        let skeleton = unsafe { pointer::elements("skeleton", module.skeleton, module.components * module.rank) }?;
        place.put(pointer::give(Plan::new(device, desc, skeleton, module.scale)?));
        Ok(())
    })
}

/// Bytes of workspace that both directions need for up to `tokens` tokens of elements of `dtype`; 0 on "cpu".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_plan_workspace(
    plan: *const idlora_plan,
    dtype: u32,
    tokens: usize,
    bytes: *mut usize,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_plan_workspace: `plan` is a handle, `bytes` a place for a number.
        let (plan, bytes) = unsafe { (pointer::shared("plan", plan)?, Place::at("bytes", bytes)?) };
        bytes.put(plan.workspace_bytes(Choice::of("dtype", dtype)?, tokens));
        Ok(())
    })
}

/// The adapted output of t tokens. On a device it is queued, and needs a workspace of the same device; on "cpu" `workspace` may
/// be null. Nothing is allocated on the device, copied or waited for, so a CUDA graph can capture it after a first run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_forward(
    plan: *const idlora_plan,
    operands: *const idlora_forward_operands,
    workspace: *mut idlora_workspace,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_forward: a handle, a struct, and a handle or null.
        let (plan, operands, workspace) =
            unsafe { (pointer::shared("plan", plan)?, pointer::read("operands", operands)?, of_device(workspace)?) };
        let dtype = Choice::of("dtype", operands.dtype)?;
        operands.check(dtype)?;
        // SAFETY: header, idlora_forward_operands: each matrix is absent or what it says, where the plan's device is.
        by_dtype!(dtype, T => unsafe {
            #[cfg(any(feature = "cuda", feature = "vm"))]
            if let Some(skeleton) = &plan.there {
                return crate::resident::forward::<T>(plan, skeleton, &operands, workspace);
            }
            let _ = workspace;
            host::forward::<T>(plan, &operands)
        })
    })
}

/// The gradients of a forward. As idlora_forward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_backward(
    plan: *const idlora_plan,
    operands: *const idlora_backward_operands,
    workspace: *mut idlora_workspace,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_backward: a handle, a struct, and a handle or null.
        let (plan, operands, workspace) =
            unsafe { (pointer::shared("plan", plan)?, pointer::read("operands", operands)?, of_device(workspace)?) };
        let dtype = Choice::of("dtype", operands.dtype)?;
        operands.check(dtype)?;
        // SAFETY: header, idlora_backward_operands: each matrix is absent or what it says, where the plan's device is.
        by_dtype!(dtype, T => unsafe {
            #[cfg(any(feature = "cuda", feature = "vm"))]
            if let Some(skeleton) = &plan.there {
                return crate::resident::backward::<T>(plan, skeleton, &operands, workspace);
            }
            let _ = workspace;
            host::backward::<T>(plan, &operands)
        })
    })
}

/// # Safety
/// Null or a handle that nobody else uses.
unsafe fn of_device<'a>(workspace: *mut idlora_workspace) -> Answer<Option<&'a mut Workspace>> {
    if workspace.is_null() {
        return Ok(None);
    }
    // SAFETY: the same contract.
    unsafe { pointer::exclusive("workspace", workspace) }.map(Some)
}

/// Closes a plan. Null is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_plan_close(plan: *mut idlora_plan) -> i32 {
    // SAFETY: header, idlora_plan_close: `plan` is null or a handle that is not used any more.
    answer(|| unsafe { pointer::close("plan", plan) })
}
