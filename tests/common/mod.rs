//! What the property suites share: the implementations under test, the matrix zoo, padded views.
#![allow(dead_code)] // each suite uses its own part

pub mod bounds;
pub mod branch;
pub mod factors;
pub mod gradients;
pub mod matrices;

use idlora::{Device, Elem, Mat, MatMut, MatRef};

/// Every implementation that this build and machine can run. A skip is printed; `IDLORA_REQUIRE` makes it a failure.
pub fn devices() -> Vec<Device> {
    let required = std::env::var("IDLORA_REQUIRE").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        name.parse::<Device>().unwrap_or_else(|error| panic!("IDLORA_REQUIRE={required}: {error}"));
    }
    vec![Device::Cpu]
}

/// Whether a kind of device must be there, by the list in `IDLORA_REQUIRE`, such as `vm,cuda`.
fn required(kind: &str) -> bool {
    let list = std::env::var("IDLORA_REQUIRE").unwrap_or_default();
    list.split(',').any(|name| name == kind || name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(':')))
}

/// Every device that runs kernels, for operations that have some. A skip is printed; `IDLORA_REQUIRE` makes it a failure, and
/// for the virtual machine `REQUIRE_NVRTC` does, too.
pub fn kernel_devices() -> Vec<Device> {
    let vm_required = required("vm") || cfg!(feature = "vm") && std::env::var_os("REQUIRE_NVRTC").is_some();
    let mut devices = Vec::new();
    for (kind, found, required) in [("vm", machine(), vm_required), ("cuda", cuda_devices(), required("cuda"))] {
        match found {
            Ok(found) => devices.extend(found),
            Err(reason) if required => panic!("`{kind}` is required: {reason}"),
            Err(reason) => println!("skipped: {reason}"),
        }
    }
    devices
}

#[cfg(not(feature = "vm"))]
fn machine() -> Result<Vec<Device>, String> {
    Err("`vm` is not in this build".to_owned())
}

/// A virtual machine of its own for every caller: some count its launches.
#[cfg(feature = "vm")]
fn machine() -> Result<Vec<Device>, String> {
    let vm = idlora::vm::Vm::default();
    vm.probe().map(|()| vec![Device::Vm(vm)]).map_err(|error| error.to_string())
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Result<Vec<Device>, String> {
    Err("`cuda` is not in this build".to_owned())
}

/// Every CUDA device that opens; opened once for the process, because the driver may have to compile all kernels.
#[cfg(feature = "cuda")]
fn cuda_devices() -> Result<Vec<Device>, String> {
    use idlora::cuda::Cuda;
    static OPENED: std::sync::OnceLock<Result<Vec<Device>, String>> = std::sync::OnceLock::new();
    let open = |ordinal| {
        let cuda = Cuda::new(ordinal)?;
        cuda.probe()?;
        Ok::<_, idlora::Error>(Device::Cuda(cuda))
    };
    let opened = OPENED.get_or_init(|| {
        let count = Cuda::count().map_err(|error| error.to_string())?;
        let (mut devices, mut reasons) = (Vec::new(), Vec::new());
        for ordinal in 0..count {
            open(ordinal).map_or_else(|error| reasons.push(error.to_string()), |device| devices.push(device));
        }
        if devices.is_empty() && reasons.is_empty() {
            reasons.push("the driver has no device".to_owned());
        }
        if devices.is_empty() {
            return Err(reasons.join("; "));
        }
        reasons.iter().for_each(|reason| println!("skipped: {reason}"));
        Ok(devices)
    });
    opened.clone()
}

/// Runs `$property::<T>` for every element type.
#[allow(unused_macros)]
macro_rules! for_every_element {
    ($property:ident($($argument:expr),*)) => {{
        $property::<f32>($($argument),*);
        $property::<idlora::f16>($($argument),*);
        $property::<idlora::bf16>($($argument),*);
    }};
}
#[allow(unused_imports)]
pub(crate) use for_every_element;

/// Runs `work` on a pool of its own with that many threads.
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// A matrix inside a larger buffer: `ld > cols`, padding and guard rows filled with NaN, so that reading or writing outside
/// the view shows.
#[derive(Clone)]
pub struct Padded<T> {
    buffer: Vec<T>,
    rows: usize,
    cols: usize,
    ld: usize,
}

const GUARD_ROWS: usize = 1;

impl<T: Elem> Padded<T> {
    /// Rounds `values` to `T` and pads each row by `pad` elements.
    pub fn new(values: &Mat<f64>, pad: usize) -> Self {
        let mut padded = Self::poisoned(values.rows(), values.cols(), pad);
        for i in 0..values.rows() {
            for (to, &from) in padded.view_mut().row_mut(i).iter_mut().zip(values.row(i)) {
                *to = T::from_f32(from as f32);
            }
        }
        padded
    }

    /// All NaN: an output that must be written everywhere.
    pub fn poisoned(rows: usize, cols: usize, pad: usize) -> Self {
        let ld = cols + pad;
        Self { buffer: vec![T::from_f32(f32::NAN); (rows + GUARD_ROWS) * ld], rows, cols, ld }
    }

    pub fn view(&self) -> MatRef<'_, T> {
        MatRef::with_ld(&self.buffer, self.rows, self.cols, self.ld).unwrap()
    }

    pub fn view_mut(&mut self) -> MatMut<'_, T> {
        MatMut::with_ld(&mut self.buffer, self.rows, self.cols, self.ld).unwrap()
    }

    /// The values as the implementation sees them, exactly.
    pub fn to_f64(&self) -> Mat<f64> {
        let data = self.view().iter_rows().flatten().map(|x| f64::from(x.to_f32())).collect();
        Mat::from_vec(data, self.rows, self.cols).unwrap()
    }

    /// Panics if anything outside the view was written.
    pub fn assert_guards(&self) {
        for (i, x) in self.buffer.iter().enumerate() {
            let (row, col) = (i / self.ld, i % self.ld);
            if row >= self.rows || col >= self.cols {
                assert!(x.to_f32().is_nan(), "padding at row {row}, column {col} was overwritten with {x:?}");
            }
        }
    }
}
