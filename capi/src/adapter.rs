//! Adapters: made from a base weight, asked, their trained tensors read and written.

use crate::choices::{Choice, Trained, by_dtype};
use crate::config::{self, idlora_config};
use crate::device::idlora_device;
use crate::host;
use crate::operands::idlora_matrix;
use crate::pointer::{self, Growing, GrowingPlace, Handle, Place};
use crate::status::{Answer, answer};
use idlora::Error;
use idlora::adapter::{IdLora, Report};
use std::ffi::{CString, c_char};

/// An adapter of one module: chosen rows, B, the gate's parameters, the configuration, the digest of its base weight.
pub struct idlora_adapter {
    _opaque: (),
}

impl Handle for idlora_adapter {
    type Value = Adapter;
    const TAG: u64 = 0x6964_6c6f_7261_0004;
    const NAME: &'static str = "idlora_adapter";
}

pub(crate) struct Adapter {
    pub lora: IdLora,
    /// The name as C reads it.
    name: CString,
}

impl Adapter {
    pub fn new(lora: IdLora) -> Answer<Self> {
        let name = CString::new(lora.name()).map_err(|_| {
            let reason = format!("the module's name {:?} has a NUL, which no text of C holds", lora.name());
            Error::Unsupported { op: "adapter", reason }
        })?;
        Ok(Self { lora, name })
    }
}

/// What making an adapter found. The three arrays are the caller's, with room for as many numbers as the configuration has
/// clusters, or null.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_report {
    /// sizeof(idlora_report).
    pub struct_size: usize,
    /// |W - W A^+ A| / |W| in Frobenius norms, A the chosen rows: 0 if they span all rows of W.
    pub relative_error: f64,
    /// Sum of squared distances to the centroids, in the space where rows are compared.
    pub inertia: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Steps of the clustering.
    pub iterations: usize,
    /// 1 if the clustering stopped by itself, 0 if at max_iterations.
    pub converged: u32,
    /// 0.
    pub reserved: u32,
    /// In: where to write rows per cluster, or null.
    pub cluster_sizes: *mut usize,
    /// In: where to write the rank that was reached in each cluster, or null.
    pub cluster_ranks: *mut usize,
    /// In: where to write the relative error of each cluster against its own chosen rows, or null.
    pub cluster_errors: *mut f64,
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers alone.
unsafe impl Growing for idlora_report {
    const NAME: &'static str = "idlora_report";
    const FIRST: usize = size_of::<Self>();
}

/// What an adapter is and costs. Pointers are the adapter's, and good until it is closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_adapter_info {
    /// sizeof(idlora_adapter_info).
    pub struct_size: usize,
    /// The module's name, UTF-8.
    pub name: *const c_char,
    /// Chosen rows of W, [k, r] row-major, all distinct.
    pub skeleton: *const u32,
    /// m, output features.
    pub rows: usize,
    /// n, input features.
    pub cols: usize,
    /// r.
    pub rank: usize,
    /// k.
    pub components: usize,
    /// s.
    pub split: usize,
    /// Rows of B: m/s.
    pub b_rows: usize,
    /// Columns of B: r/s.
    pub b_cols: usize,
    /// Rows of the gate's parameters: 1 or k.
    pub gate_rows: usize,
    /// Columns of the gate's parameters: r, n or k.
    pub gate_cols: usize,
    /// Trained numbers: those of B and of the gate.
    pub trained: usize,
    /// Bytes frozen beside the base weight: the row numbers.
    pub frozen_bytes: usize,
    /// Bytes of tensor data in the adapter's file.
    pub stored_bytes: usize,
    /// Bytes of AdamW's state.
    pub optimizer_bytes: usize,
    /// The factor on the update.
    pub scale: f32,
    /// An idlora_gate.
    pub gate: u32,
    /// An idlora_dtype: the element type of the base weight.
    pub dtype: u32,
    /// 0.
    pub reserved: u32,
    /// SHA-256 of the base weight.
    pub digest: [u8; 32],
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers alone.
unsafe impl Growing for idlora_adapter_info {
    const NAME: &'static str = "idlora_adapter_info";
    const FIRST: usize = size_of::<Self>();
}

/// Makes the adapter of module `name` from its base weight W [m, n] in host memory, elements of `dtype` (an idlora_dtype): clusters
/// the rows, chooses r of each cluster, starts B and the gate. The clustering runs on `device`. The same input gives the same
/// bits, whatever the number of threads. `report` may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_adapter_create(
    device: *const idlora_device,
    name: *const c_char,
    dtype: u32,
    w: *const idlora_matrix,
    config: *const idlora_config,
    report: *mut idlora_report,
    adapter: *mut *mut idlora_adapter,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_adapter_create: handles, text, struct and places are what it says they are.
        let (place, device, name, config, report) = unsafe {
            (
                Place::of_handle("adapter", adapter)?,
                pointer::shared("device", device)?,
                pointer::text("name", name)?,
                config::of(&pointer::read("config", config)?)?,
                Reported::at(report)?,
            )
        };
        let (lora, found) = by_dtype!(Choice::of("dtype", dtype)?, T => {
            // SAFETY: header, idlora_adapter_create: `w` is a matrix of such elements on the host.
            IdLora::init(device, name, unsafe { host::needed_view::<T>("w", w) }?, &config)?
        });
        let lora = Adapter::new(lora)?;
        if let Some(report) = report {
            report.put(&found)?;
        }
        place.put(pointer::give(lora));
        Ok(())
    })
}

/// Where the caller wants a report, and the arrays that it has room for.
struct Reported {
    place: GrowingPlace<idlora_report>,
    given: idlora_report,
}

impl Reported {
    /// # Safety
    /// Null, or a writable report with its `struct_size` and arrays set.
    unsafe fn at(report: *mut idlora_report) -> Answer<Option<Self>> {
        // SAFETY: the same contract.
        let Some(place) = unsafe { GrowingPlace::maybe("report", report) }? else { return Ok(None) };
        // SAFETY: the same contract.
        let given = unsafe { pointer::read("report", report) }?;
        Ok(Some(Self { place, given }))
    }

    fn put(&self, found: &Report) -> Answer {
        let Self { place, given } = self;
        // SAFETY: header, idlora_report: each array is null or has room for a number of every cluster.
        unsafe {
            fill("cluster_sizes", given.cluster_sizes, &found.sizes)?;
            fill("cluster_ranks", given.cluster_ranks, &found.rank_reached)?;
            fill("cluster_errors", given.cluster_errors, &found.cluster_errors)?;
        }
        place.put(&idlora_report {
            relative_error: found.relative_error,
            inertia: found.inertia,
            seconds: found.seconds,
            iterations: found.iterations,
            converged: u32::from(found.converged),
            ..*given
        });
        Ok(())
    }
}

/// # Safety
/// `to` is null or has room for the values.
unsafe fn fill<T: Copy>(name: &str, to: *mut T, values: &[T]) -> Answer {
    if !to.is_null() {
        // SAFETY: this function's contract.
        unsafe { pointer::elements_mut(name, to, values.len()) }?.copy_from_slice(values);
    }
    Ok(())
}

/// What an adapter is and costs. struct_size of `info` must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_adapter_describe(
    adapter: *const idlora_adapter,
    info: *mut idlora_adapter_info,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_adapter_describe: `adapter` is a handle, `info` writable with its struct_size set.
        let (adapter, place) = unsafe { (pointer::shared("adapter", adapter)?, GrowingPlace::at("info", info)?) };
        place.put(&described(adapter));
        Ok(())
    })
}

fn described(Adapter { lora, name }: &Adapter) -> idlora_adapter_info {
    let (config, counters) = (lora.config(), lora.counters());
    idlora_adapter_info {
        struct_size: size_of::<idlora_adapter_info>(),
        name: name.as_ptr(),
        skeleton: lora.skeleton().as_ptr(),
        rows: lora.rows(),
        cols: lora.cols(),
        rank: config.rank,
        components: config.clusters,
        split: config.split,
        b_rows: lora.b().rows(),
        b_cols: lora.b().cols(),
        gate_rows: lora.gate().rows(),
        gate_cols: lora.gate().cols(),
        trained: counters.trained,
        frozen_bytes: counters.frozen_bytes,
        stored_bytes: counters.stored_bytes,
        optimizer_bytes: counters.optimizer_bytes,
        scale: lora.scale(),
        gate: config.gate.number(),
        dtype: lora.dtype().number(),
        reserved: 0,
        digest: lora.digest().0,
    }
}

/// The configuration that an adapter was made with. struct_size of `config` must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_adapter_config(adapter: *const idlora_adapter, config: *mut idlora_config) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_adapter_config: `adapter` is a handle, `config` writable with its struct_size set.
        let (adapter, place) = unsafe { (pointer::shared("adapter", adapter)?, GrowingPlace::at("config", config)?) };
        place.put(&config::to(adapter.lora.config()));
        Ok(())
    })
}

/// Copies a trained tensor (an idlora_parameter) to `values`, host memory of `count` floats, which is all of it, row by row.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_adapter_read(
    adapter: *const idlora_adapter,
    parameter: u32,
    values: *mut f32,
    count: usize,
) -> i32 {
    answer(|| {
        let which: Trained = Choice::of("parameter", parameter)?;
        // SAFETY: header, idlora_adapter_read: `adapter` is a handle, `values` has room for `count` floats.
        let (adapter, values) =
            unsafe { (pointer::shared("adapter", adapter)?, pointer::elements_mut("values", values, count)?) };
        let from = adapter.lora.parameters()[which as usize].value;
        same_count(from.rows() * from.cols(), count)?;
        for (to, row) in values.chunks_exact_mut(from.cols()).zip(from.iter_rows()) {
            to.copy_from_slice(row);
        }
        Ok(())
    })
}

/// Overwrites a trained tensor (an idlora_parameter) with `count` floats of host memory, which is all of it, row by row: before
/// idlora_save and idlora_merge, where a trainer holds B and the gate in memory of its own. NaN and infinity are refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_adapter_write(
    adapter: *mut idlora_adapter,
    parameter: u32,
    values: *const f32,
    count: usize,
) -> i32 {
    answer(|| {
        let which: Trained = Choice::of("parameter", parameter)?;
        // SAFETY: header, idlora_adapter_write: `adapter` is a handle that nobody else uses, `values` has `count` floats.
        let (adapter, values) =
            unsafe { (pointer::exclusive("adapter", adapter)?, pointer::elements("values", values, count)?) };
        let [b, gate] = adapter.lora.parameters_mut();
        let mut to = match which {
            Trained::B => b,
            Trained::Gate => gate,
        };
        let (rows, cols) = to.shape();
        same_count(rows * cols, count)?;
        if let Some((place, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            let (operand, row, col) = (to.name.to_owned(), place / cols, place % cols);
            return Err(Error::NonFinite { op: "adapter", operand, row, col, value }.into());
        }
        for (row, values) in values.chunks_exact(cols).enumerate() {
            to.value.row_mut(row).copy_from_slice(values);
        }
        Ok(())
    })
}

fn same_count(expected: usize, found: usize) -> Answer {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (format!("length {expected}"), format!("length {found}"));
    Err(Error::Shape { op: "adapter", operand: "values", expected, found }.into())
}

/// Closes an adapter. Plans that were made of it stay. Null is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_adapter_close(adapter: *mut idlora_adapter) -> i32 {
    // SAFETY: header, idlora_adapter_close: `adapter` is null or a handle that is not used any more.
    answer(|| unsafe { pointer::close("adapter", adapter) })
}
