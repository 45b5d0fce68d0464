//! Devices: by name, what is said where one is missing, and what those that run kernels refuse.

mod common;

use common::{devices, kernel_devices};
use idlora::device::{Facts, list};
use idlora::{Device, Error};

#[test]
fn devices_parse_as_they_print() {
    assert_eq!("cpu".parse::<Device>().unwrap(), Device::Cpu);
    for device in devices().into_iter().chain(kernel_devices()) {
        assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        assert_eq!(device, device.clone());
        assert_eq!(device == Device::Cpu, device.to_string() == "cpu");
    }
}

#[test]
fn what_is_listed_opens_and_nothing_else_does() {
    let listed = list();
    assert_eq!(listed[0].device, "cpu");
    assert!(matches!(listed[0].found, Ok(Facts::Cpu { threads: 1.., .. })), "{listed:?}");
    for kind in ["cuda", "vm"] {
        assert!(listed.iter().any(|listing| listing.device.starts_with(kind)), "{kind}: {listed:?}");
    }
    for listing in &listed {
        match (&listing.found, listing.device.parse::<Device>()) {
            (Ok(_), opened) => assert_eq!(opened.unwrap().to_string(), listing.device),
            // Without a compiler, devices open and refuse the first kernel.
            (Err(reason), Ok(_)) => assert!(reason.contains("no compiled kernels"), "{listing:?}"),
            (Err(reason), Err(error)) => {
                assert!(matches!(error, Error::Device { .. }), "{error}");
                let built = !reason.contains("not in this build");
                assert_eq!(error.to_string().contains("not known to this build"), !built, "{reason}; {error}");
                assert!(!built || error.to_string().ends_with(reason.as_str()), "{reason}; {error}");
            }
        }
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::*;
    use idlora::cuda::Cuda;
    use std::path::Path;

    /// Without a driver `cudarc` panics when anything of it is called.
    #[test]
    fn without_a_driver_the_library_is_named() {
        if Path::new("/dev/nvidiactl").exists() || Path::new("/dev/dxg").exists() {
            return println!("skipped: there is a driver");
        }
        for (message, device) in [
            ("cuda".parse::<Device>().unwrap_err().to_string(), "cuda:0"),
            ("cuda:3".parse::<Device>().unwrap_err().to_string(), "cuda:3"),
            (Cuda::new(usize::MAX).unwrap_err().to_string(), "cuda:18446744073709551615"),
            (Cuda::count().unwrap_err().to_string(), "cuda"),
        ] {
            // Either nobody installed it, or it finds no hardware.
            let known = message.contains("libcuda.so.1") || message.contains("the driver does not start");
            assert!(message.starts_with(&format!("device `{device}`: ")) && known, "{message}");
        }
    }

    #[test]
    fn a_device_beyond_the_last_is_refused_with_what_there_is() {
        let Ok(count @ 1..) = Cuda::count() else { return println!("skipped: no CUDA device") };
        let message = Cuda::new(count).unwrap_err().to_string();
        assert!(message.starts_with(&format!("device `cuda:{count}`: no such device: there")), "{message}");
        assert!(message.contains("`cuda:0`"), "{message}");
    }

    /// A handle goes wherever a trainer's threads go.
    #[test]
    fn handles_cross_threads() {
        fn crosses<T: Send + Sync + Clone>() {}
        crosses::<Cuda>();
        crosses::<Device>();
    }

    /// Launches of a timed handle are told, once, with plausible times; others are not.
    #[test]
    fn a_timed_handle_tells_its_launches() {
        use idlora::norms::{Axis, Desc, Plan};
        use idlora::{Mat, MatRef};
        for device in kernel_devices() {
            let Device::Cuda(cuda) = device else { continue };
            let w = Mat::<f32>::zeros(100, 300).unwrap();
            let run = |device: &Cuda| {
                let desc = Desc { rows: 100, cols: 300, axis: Axis::Cols };
                let plan = Plan::new(&Device::Cuda(device.clone()), desc).unwrap();
                plan.run(MatRef::new(w.data(), 100, 300).unwrap(), &mut [0.0; 300]).unwrap();
            };
            let timed = Cuda::new(cuda.ordinal()).unwrap().timed();
            assert_ne!(timed, cuda);
            run(&cuda);
            assert!(cuda.take_launches().unwrap().is_empty());
            run(&timed);
            let launches = timed.take_launches().unwrap();
            let kernels: Vec<&str> = launches.iter().map(|launch| launch.kernel).collect();
            assert_eq!(kernels, ["norm_columns", "norm_columns_finish"]);
            assert!(launches.iter().all(|launch| launch.variant == "norms.f32.sm_80"));
            assert!(launches.iter().all(|launch| (0.1..1e6).contains(&launch.microseconds)), "{launches:?}");
            assert!(timed.take_launches().unwrap().is_empty());
        }
    }

    /// A stream of the caller's is used as it is.
    #[test]
    fn a_stream_of_the_caller_gives_the_same_bits() {
        use idlora::cuda::cudarc::driver::CudaContext;
        use idlora::norms::{Axis, Desc, Plan};
        use idlora::{Mat, MatRef};
        for device in kernel_devices() {
            let Device::Cuda(own) = device else { continue };
            let stream = CudaContext::new(own.ordinal()).unwrap().new_stream().unwrap();
            let other = Cuda::on_stream(stream).unwrap();
            assert_ne!(own, other);
            let w: Vec<f32> = (0..77 * 333).map(|i| (i as f32).sin()).collect();
            let w = Mat::from_vec(w, 77, 333).unwrap();
            let norms = |device: Cuda| {
                let mut out = [0.0; 77];
                let plan = Plan::new(&Device::Cuda(device), Desc { rows: 77, cols: 333, axis: Axis::Rows }).unwrap();
                plan.run(MatRef::new(w.data(), 77, 333).unwrap(), &mut out).unwrap();
                out.map(f32::to_bits)
            };
            assert_eq!(norms(own), norms(other));
        }
    }
}

/// What was counted, as cards should take it; one of the caller's own too.
#[cfg(feature = "vm")]
#[test]
fn launches_of_a_machine_have_times_of_a_model() {
    use idlora::model::{Bound, Card};
    use idlora::norms::{Axis, Desc, Plan};
    use idlora::{Mat, MatRef};
    for device in kernel_devices() {
        let Device::Vm(vm) = &device else { continue };
        let w = Mat::<f32>::zeros(100, 300).unwrap();
        let plan = Plan::new(&device, Desc { rows: 100, cols: 300, axis: Axis::Rows }).unwrap();
        vm.take_launches();
        plan.run(MatRef::new(w.data(), 100, 300).unwrap(), &mut [0.0; 100]).unwrap();
        let launches = vm.take_launches();
        assert_eq!((launches.len(), launches[0].blocks, launches[0].shared), (1, 13, 0));
        let mut slow = Card::a100();
        slow.memory /= 1e3;
        let [h100, a100, slow] = [Card::h100(), Card::a100(), slow].map(|card| launches[0].modelled(&card).unwrap());
        assert_eq!((h100.bound, a100.bound, slow.bound), (Bound::Launch, Bound::Launch, Bound::Memory));
        assert!((3e-6..1e-5).contains(&h100.seconds) && slow.seconds > 120_000.0 / 1.9e9, "{h100:?} {slow:?}");
        assert!(Device::Vm(vm.clone().on_card(Card::a100())) != device);
    }
}

/// Devices that run kernels, without asking whether they can: a refusal needs none.
#[cfg(any(feature = "cuda", feature = "vm"))]
fn refusing() -> Vec<Device> {
    [
        kernel_devices(),
        #[cfg(feature = "vm")]
        vec![Device::Vm(idlora::vm::Vm::default())],
    ]
    .concat()
}

/// Operations that have no kernel refuse the device by name; nothing is computed elsewhere instead.
#[cfg(any(feature = "cuda", feature = "vm"))]
#[test]
fn operations_without_a_kernel_refuse_the_device() {
    use idlora::{MatRef, interp};

    let data = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let w = MatRef::new(&data, 3, 2).unwrap();
    for device in refusing() {
        let refused = |operation: &str, result: Result<(), Error>| {
            let expected = format!("device `{device}`: no kernel for {operation} on this device yet");
            assert_eq!(result.unwrap_err().to_string(), expected);
        };
        refused("interpolation errors", interp::relative_error(&device, w, &[0, 1], &[2]).map(drop));
        refused("interpolation errors", interp::error_curve(&device, w, &[2], &[1]).map(drop));
        refused("singular values", interp::svd_curve(&device, w, &[1]).map(drop));
    }
}
