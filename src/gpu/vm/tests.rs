//! The device: buffers, findings, the clock.

mod clock;

use super::*;
use crate::elem::Dtype;
use crate::gpu::variants::{Family, norms};

/// A machine, or `None`, said aloud, where there is no compiler and none is required.
pub(crate) fn machine(settings: Settings) -> Option<Vm> {
    let vm = Vm::new(settings);
    match vm.probe() {
        Ok(()) => Some(vm),
        Err(error) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{error}"),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

#[test]
fn buffers_return_what_was_uploaded_and_are_freed() {
    let vm = Vm::default();
    let buffer = vm.upload("test", "data", &[1.5f32, 2.5]).unwrap();
    let mut found = [0.0f32; 2];
    vm.download("test", &buffer, &mut found).unwrap();
    assert_eq!(found, [1.5, 2.5]);
    let message = vm.download("test", &buffer, &mut [0.0f32; 3]).unwrap_err().to_string();
    assert_eq!(message, "test: `download` has 12 bytes, expected 8 bytes");
    let handle = buffer.handle;
    drop(buffer);
    assert!(vm.state().memory.download(&handle).is_err(), "freed");
    assert!(matches!(
        vm.allocate::<f32>("test", "huge", usize::MAX).unwrap_err(),
        Error::OutOfMemory { op: "test", what: "huge", bytes: usize::MAX }
    ));
}

/// A workspace that is too small, and a buffer that nobody initialised.
#[test]
fn a_finding_is_an_error_that_names_operation_kernel_and_line() {
    let Some(vm) = machine(Settings::default()) else { return };
    let kernel = Kernel::of("norms", Family::Norms, Some(Dtype::F32), &norms::ROWS).unwrap();
    let scalars: Vec<u8> = [2u64, 3, 3].iter().flat_map(|x| x.to_le_bytes()).collect();
    let w = vm.upload("norms", "w", &[1.0f32; 6]).unwrap();
    let mut offender = vm.upload("norms", "offender", &[u64::MAX]).unwrap();
    let mut norms = vm.allocate::<f32>("norms", "norms", 1).unwrap();
    let error = vm.launch(&kernel, 1.into(), &[&w], &mut [&mut norms, &mut offender], &scalars).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("norms: kernel `norm_rows`: GlobalOutOfBounds"), "{message}");
    assert!(message.contains("kernels/norms.cu:"), "{message}");

    let unwritten = vm.allocate::<f32>("norms", "w", 6).unwrap();
    let mut norms = vm.allocate::<f32>("norms", "norms", 2).unwrap();
    let error = vm.launch(&kernel, 1.into(), &[&unwritten], &mut [&mut norms, &mut offender], &scalars).unwrap_err();
    assert!(error.to_string().contains("Uninitialised"), "{error}");
    assert_eq!(vm.take_launches().len(), 2);
    assert!(vm.take_launches().is_empty());
}
