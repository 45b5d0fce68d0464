//! What a tuner asks of a device: time, whether a stream is captured, which card it is.

use super::{Cuda, DATA, assert_clean, kernel, line, play, tile};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::model::{Card, card::CACHE};

#[test]
fn launches_are_timed_together() {
    let Some(report) = play("timing", &[]) else { return };
    assert_clean(&report);
    assert_eq!(line(&report, "launches"), 5);
    let Some(report) = play("late", &[("PAPER_FAULT", "1")]) else { return };
    assert_eq!(line(&report, "launches"), 1);
}

#[test]
fn nothing_is_timed_while_a_stream_is_captured() {
    let Some(report) = play("capture", &[]) else { return };
    assert_clean(&report);
    assert_eq!(line(&report, "launches"), 0);
}

#[test]
fn a_device_is_told_as_a_card() {
    let Some(report) = play("card", &[]) else { return };
    assert_clean(&report);
    for (attribute, name) in [
        ("13", "clock rate: 0"),
        ("36", "clock rate of memory: 0"),
        ("37", "width of the memory bus: 0"),
        ("38", "size of the second cache: 0"),
        ("39", "threads: 0"),
        ("81", "shared memory: 0"),
        ("106", "blocks: 0"),
    ] {
        let Some(report) = play("untold", &[("PAPER_UNTOLD", attribute), ("EXPECTED", name)]) else { return };
        assert_clean(&report);
    }
}

/// Says what the driver tells of captures from here on.
fn capture(status: i32) {
    // SAFETY: the driver of paper, which is loaded already, with a function of this type.
    unsafe {
        let library = libloading::Library::new("libcuda.so.1").unwrap();
        library.get::<unsafe extern "C" fn(i32)>("paper_capture").unwrap()(status);
    }
}

/// Launches the rows' norms of three rows so many times.
fn launch(cuda: &Cuda, times: usize) -> Result<()> {
    let shape = [3u64, 3, 4].map(u64::to_ne_bytes).concat();
    let w = cuda.upload("norms", "w", &DATA)?;
    let (mut norms, mut offender) =
        (cuda.zeroed::<f32>("norms", "norms", 3)?, cuda.zeroed::<u64>("norms", "offender", 1)?);
    let rows = kernel(&tile::ROWS);
    (0..times).try_for_each(|_| cuda.launch(&rows, 1.into(), &[&w], &mut [&mut norms, &mut offender], &shape))
}

/// A quarter of a millisecond for each launch of `run`, and none for those before and behind.
pub fn launches_between_events() {
    let cuda = Cuda::new(0).unwrap();
    launch(&cuda, 1).unwrap();
    assert_eq!(cuda.seconds(&mut || launch(&cuda, 3)).unwrap(), 0.75e-3);
    launch(&cuda, 1).unwrap();
    assert_eq!(cuda.seconds(&mut || Ok(())).unwrap(), 0.0);
    let error = cuda.seconds(&mut || Err(Error::unsupported("test", "not today"))).unwrap_err();
    assert_eq!(error.to_string(), "test: not today");
}

/// It was waited for: the fault shows here, and not at the next call.
pub fn a_fault_is_its_kernel_s() {
    let cuda = Cuda::new(0).unwrap();
    let error = cuda.seconds(&mut || launch(&cuda, 1)).unwrap_err();
    assert_eq!(error.to_string(), "timing: kernel `norm_rows`: PAPER_ILLEGAL: in the driver's words");
    assert!(matches!(error, Error::Kernel { .. }), "{error:?}");
}

pub fn captures_are_seen() {
    let cuda = Cuda::new(0).unwrap();
    assert!(!cuda.capturing().unwrap());
    // Active, failed and not ended, and another stream's that this one must not disturb.
    for status in [1, 2, 906] {
        capture(status);
        // From a thread whose current context is none, too.
        assert!(std::thread::scope(|scope| scope.spawn(|| cuda.capturing()).join()).unwrap().unwrap(), "{status}");
        let message = cuda.seconds(&mut || panic!("nothing may run")).unwrap_err().to_string();
        assert!(message.starts_with("device `cuda:0`: cannot be timed while its stream is captured"), "{message}");
    }
    capture(0);
    assert!(!cuda.capturing().unwrap());
    assert_eq!(cuda.seconds(&mut || Ok(())).unwrap(), 0.0);
}

pub fn the_card_is_what_the_driver_tells() {
    let cuda = Cuda::new(0).unwrap();
    let card = cuda.card().unwrap();
    let h100 = Card::h100();
    assert_eq!((card.name.as_str(), card.multiprocessors, card.clock), ("Paper 0", 7, h100.clock));
    assert_eq!((card.cache, card.cache_bytes), (CACHE * 7.0 * h100.clock, h100.cache_bytes));
    assert_eq!((card.multiprocessor, card.launch, card.latency), (h100.multiprocessor, h100.launch, h100.latency));
    assert!((card.memory / h100.memory - 1.0).abs() < 0.01, "{card:?}");
    assert!((card.tensor / h100.tensor * 132.0 / 7.0 - 1.0).abs() < 0.02, "{card:?}");

    let identity = cuda.identity().unwrap();
    assert_eq!((identity.device.as_str(), identity.multiprocessors), ("Paper 0", 7));
    // A machine with a driver of its own tells the build of that.
    assert!(identity.driver.starts_with("CUDA 12.2"), "{identity:?}");
}

pub fn a_figure_is_missing() {
    let cuda = Cuda::new(0).unwrap();
    let expected = format!("device `cuda:0`: the driver tells no {}", std::env::var("EXPECTED").unwrap());
    assert_eq!(cuda.card().unwrap_err().to_string(), expected);
    launch(&cuda, 1).unwrap();
}
