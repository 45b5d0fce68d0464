//! The device against a driver of paper, `tests/cuda_driver.c`: calls, their order, lifetimes and errors, without a GPU. Each
//! scene runs in a process of its own, this executable once more, which finds that driver in its library path.

mod step;
mod timing;

use super::*;
use crate::Device;
use crate::elem::Dtype;
use crate::gpu::variants::{Family, norms as tile};
use crate::gpu::{Gpu, Grid, Kernel};
use crate::mat::MatRef;
use crate::norms::{Axis, Desc, Plan};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the scene that the process plays.
const SCENE: &str = "PAPER_SCENE";

/// Compiles the driver into `folder`, or says why it cannot.
fn driver(folder: &Path) -> std::result::Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda_driver.c");
    if !source.exists() {
        return Err(format!("no {}", source.display()));
    }
    let library = folder.join("libcuda.so.1");
    let options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"];
    let output = Command::new("cc").args(options).arg(&source).arg("-lm").arg("-o").arg(&library).output();
    let output = output.map_err(|error| format!("cc: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The name that `cudarc` tries first must not find another.
    std::os::unix::fs::symlink(&library, folder.join("libcuda.so")).map_err(|error| error.to_string())
}

/// Plays a scene; `None` where it was skipped, else what the driver reports at the end.
fn play(scene: &str, settings: &[(&str, &str)]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    if !cfg!(target_os = "linux") || image::image(0).is_err() {
        println!("skipped: this needs Linux and compiled kernels");
        return None;
    }
    if let Err(reason) = driver(folder.path()) {
        println!("skipped: {reason}");
        return None;
    }
    let report: PathBuf = folder.path().join("report");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "gpu::cuda::tests::scene", "--nocapture", "--test-threads=1"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(SCENE, scene)
        .env("PAPER_REPORT", &report)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("played"), "{scene} {settings:?}: {text}");
    Some(std::fs::read_to_string(&report).unwrap_or_default())
}

fn line(report: &str, name: &str) -> i64 {
    let value = report.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_else(|| {
        panic!("no line {name}: {report}");
    });
    value.parse().unwrap()
}

/// Everything was given back, and nothing done that the driver complains of.
fn assert_clean(report: &str) {
    for name in ["allocations", "modules", "events", "contexts", "wrong"] {
        assert_eq!(line(report, name), 0, "{report}");
    }
}

#[test]
fn norms_come_back_through_every_kind_of_image_and_memory() {
    for settings in [
        &[][..],
        &[("PAPER_CAPABILITY", "80")],
        &[("PAPER_CAPABILITY", "86"), ("PAPER_REFUSE", "c")],
        &[("PAPER_POOLS", "0")],
        &[("PAPER_VERSION", "11040")],
        &[("PAPER_DEVICES", "3")],
    ] {
        let Some(report) = play("norms", settings) else { return };
        assert_clean(&report);
        assert_eq!(line(&report, "launches"), 4, "{report}");
    }
}

#[test]
fn launches_are_timed_and_shared_memory_is_asked_for() {
    let Some(report) = play("launches", &[]) else { return };
    assert_clean(&report);
    assert_eq!(line(&report, "shared"), 200_000);
}

#[test]
fn what_the_driver_refuses_is_an_error_that_says_why() {
    for (scene, settings) in [
        ("old", &[("PAPER_VERSION", "11020")][..]),
        ("none", &[("PAPER_DEVICES", "0")]),
        ("early", &[("PAPER_CAPABILITY", "75")]),
        ("image", &[("PAPER_REFUSE", "cp"), ("PAPER_CAPABILITY", "80")]),
        ("memory", &[("PAPER_MEMORY", "5000")]),
        ("fault", &[("PAPER_FAULT", "1")]),
    ] {
        let Some(report) = play(scene, settings) else { return };
        if scene == "memory" {
            assert_clean(&report);
        }
    }
}

/// Plays the scene that the environment names, if it names one.
#[test]
fn scene() {
    match std::env::var(SCENE).unwrap_or_default().as_str() {
        "" => return,
        "norms" => norms(),
        "launches" => launches(),
        "old" => refuses_to_open("the driver is too old: it is for CUDA 11.2, needed is 11.4"),
        "none" => refuses_to_open("the driver does not start: PAPER_ERROR: in the driver's words"),
        "early" => refuses_to_open("Paper 0 has compute capability 7.5, the kernels need 8.0"),
        "image" => image_is_refused(),
        "memory" => memory_ends(),
        "fault" => a_kernel_does_wrong(),
        "step" => step::only_launches(),
        "slices" => step::slices_are_ordered(),
        "timing" => timing::launches_between_events(),
        "late" => timing::a_fault_is_its_kernel_s(),
        "capture" => timing::captures_are_seen(),
        "card" => timing::the_card_is_what_the_driver_tells(),
        "untold" => timing::a_figure_is_missing(),
        other => panic!("no scene {other}"),
    }
    println!("played");
}

const DATA: [f32; 12] = [3.0, 4.0, 0.0, 9.0, -5.0, 0.0, 12.0, 9.0, 1.0, 2.0, 2.0, 9.0];

/// Three rows of three, which lie four apart.
fn run(device: &Device, data: &[f32]) -> Result<[f32; 3]> {
    let mut out = [f32::NAN; 3];
    let plan = Plan::new(device, Desc { rows: 3, cols: 3, axis: Axis::Rows })?;
    plan.run(MatRef::with_ld(data, 3, 3, 4)?, &mut out)?;
    Ok(out)
}

fn norms() {
    let cuda = Cuda::new(0).unwrap();
    assert!("cuda".parse::<Device>().unwrap() == Device::Cuda(cuda.clone()), "the same stream");
    for device in [Device::Cuda(cuda.clone()), Device::Cuda(cuda.clone().timed())] {
        assert_eq!(run(&device, &DATA).unwrap(), [5.0, 13.0, 3.0]);
    }
    let mut bad = DATA;
    bad[6] = f32::NAN;
    let message = run(&Device::Cuda(cuda.clone()), &bad).unwrap_err().to_string();
    assert!(message.contains("NaN at row 1, column 2"), "{message}");
    // Another thread, whose current context is none; and a stream of its own.
    let other = cuda.clone();
    std::thread::spawn(move || {
        let stream = other.stream.context().new_stream().unwrap();
        let streamed = Cuda::on_stream(stream).unwrap();
        assert_ne!(streamed, other);
        assert_eq!(run(&Device::Cuda(streamed), &DATA).unwrap(), [5.0, 13.0, 3.0]);
    })
    .join()
    .unwrap();
    // A buffer that is dropped on a thread without a context.
    let buffer = cuda.upload("test", "data", &DATA).unwrap();
    std::thread::spawn(move || drop(buffer)).join().unwrap();
    cuda.wait("test").unwrap();
    assert_eq!(Cuda::count().unwrap().to_string(), std::env::var("PAPER_DEVICES").unwrap_or("1".to_owned()));
}

fn kernel(entry: &'static crate::gpu::variants::Entry) -> Kernel {
    Kernel::of("norms", Family::Norms, Some(Dtype::F32), entry).unwrap()
}

fn launches() {
    let cuda = Cuda::new(0).unwrap().timed();
    let rows = kernel(&tile::ROWS);
    assert_eq!(cuda.shared_limit(), 232_448);
    // 256 threads: 8 blocks by threads, 1 by shared memory; 7 multiprocessors.
    assert_eq!(cuda.resident(&rows, 0).unwrap(), 56);
    assert_eq!(cuda.resident(&rows, 150_000).unwrap(), 7);
    assert_eq!(cuda.resident(&rows, 20_000).unwrap(), 56);
    assert!(cuda.resident(&rows, 232_448).unwrap_err().to_string().starts_with("norms: kernel `norm_rows`: PAPER"));

    let shape = [3u64, 3, 4].map(u64::to_ne_bytes).concat();
    let w = cuda.upload("norms", "w", &DATA).unwrap();
    let (mut norms, mut offender) =
        (cuda.zeroed::<f32>("norms", "norms", 3).unwrap(), cuda.upload("norms", "offender", &[u64::MAX]).unwrap());
    for shared in [0, 200_000, 1000] {
        cuda.launch(&rows, Grid { blocks: 1, shared }, &[&w], &mut [&mut norms, &mut offender], &shape).unwrap();
    }
    let told = cuda.take_launches().unwrap();
    assert_eq!(told.len(), 3);
    let expected = Launched { kernel: "norm_rows", variant: VARIANTS[rows.variant].name(), microseconds: 250.0 };
    assert!(told.iter().all(|launch| *launch == expected), "{told:?}");
    assert!(cuda.take_launches().unwrap().is_empty());

    let message = cuda.launch(&rows, 1.into(), &[&w], &mut [&mut norms], &shape).unwrap_err().to_string();
    assert!(message.contains("takes (inputs, outputs, bytes of scalars)"), "{message}");
    let message = cuda
        .launch(&kernel(&tile::ROW_SQUARES), 1.into(), &[&w], &mut [&mut norms, &mut offender], &shape)
        .unwrap_err()
        .to_string();
    assert_eq!(message, "norms: kernel `norm_row_squares`: PAPER_ERROR: in the driver's words");

    // From a thread whose current context is none; timing would have made it current.
    let untimed = Cuda { timed: false, ..cuda.clone() };
    std::thread::scope(|scope| {
        let launched = scope.spawn(|| untimed.launch(&rows, 1.into(), &[&w], &mut [&mut norms, &mut offender], &shape));
        launched.join().unwrap().unwrap();
    });

    // Buffers.
    let mut gone = DATA.to_vec();
    let copied = cuda.upload("test", "data", &gone).unwrap();
    gone.fill(0.0);
    cuda.download("test", &copied, &mut gone).unwrap();
    assert_eq!(gone, DATA, "copied before the caller's slice may go");
    let mut found = [0.0f32; 3];
    cuda.download("test", &norms, &mut found).unwrap();
    assert_eq!(found, [5.0, 13.0, 3.0]);
    cuda.write("test", &mut norms, &[1.0f32, 2.0, 3.0]).unwrap();
    cuda.download("test", &norms, &mut found).unwrap();
    assert_eq!(found, [1.0, 2.0, 3.0]);
    cuda.download("test", &cuda.zeroed::<f32>("test", "zeros", 3).unwrap(), &mut found).unwrap();
    assert_eq!(found, [0.0; 3]);
    assert_ne!(Gpu::address(&cuda, &norms), Gpu::address(&cuda, &w));
    let message = cuda.download("test", &norms, &mut [0.0f32; 2]).unwrap_err().to_string();
    assert_eq!(message, "test: `download` has 8 bytes, expected 12 bytes");
    assert!(cuda.write("test", &mut norms, &[0.0f32; 4]).is_err());
    let mut empty = cuda.upload::<f32>("test", "empty", &[]).unwrap();
    cuda.write::<f32>("test", &mut empty, &[]).unwrap();
    cuda.download::<f32>("test", &empty, &mut []).unwrap();
}

fn refuses_to_open(reason: &str) {
    let message = "cuda".parse::<Device>().unwrap_err().to_string();
    assert_eq!(message, format!("device `cuda:0`: {reason}"));
    let listed = crate::device::list();
    assert!(listed.iter().any(|listing| listing.found == Err(reason.to_owned())), "{listed:?}");
}

fn image_is_refused() {
    let message = Cuda::new(0).unwrap().probe().unwrap_err().to_string();
    let words = "PAPER_ERROR: in the driver's words\nptxas: says why";
    assert_eq!(message, format!("device `cuda:0`: image {}: cubin: {words}; PTX: {words}", VARIANTS[0].name()));
}

fn memory_ends() {
    let cuda = Cuda::new(0).unwrap();
    let error = cuda.allocate::<f64>("test", "huge", 700).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { op: "test", what: "huge", bytes: 5600 }), "{error}");
    let error = cuda.zeroed::<f64>("test", "absurd", usize::MAX).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { bytes: usize::MAX, .. }), "{error}");
    // What is dropped can be had again.
    for _ in 0..3 {
        let buffer = cuda.upload("test", "large", &[1.0f64; 600]).unwrap();
        drop(buffer);
        cuda.wait("test").unwrap();
    }
}

/// The fault shows at the next wait, is told as the kernel's, and from then on as the device's.
fn a_kernel_does_wrong() {
    let device = "cuda:0".parse::<Device>().unwrap();
    let error = run(&device, &DATA).unwrap_err();
    assert_eq!(error.to_string(), "norms: kernel `norm_rows`: PAPER_ILLEGAL: in the driver's words");
    assert!(matches!(error, Error::Kernel { .. }), "{error:?}");
    let error = run(&device, &DATA).unwrap_err();
    assert!(matches!(error, Error::Device { .. }), "{error:?}");
}
