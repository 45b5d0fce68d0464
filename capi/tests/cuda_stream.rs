//! A step on a CUDA stream of the caller, against the library's driver of paper: whose stream it is launched on, what else the driver
//! is asked for, and that everything is given back.
#![cfg(all(feature = "cuda", target_os = "linux"))]

mod common;

use common::{compiler, library_folder, root, run};
use std::process::Command;
use tempfile::tempdir;

#[test]
fn a_step_runs_on_the_caller_s_stream() {
    if let Err(reason) = idlora::kernels::list() {
        assert!(std::env::var_os("REQUIRE_NVRTC").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
        return;
    }
    let cc = compiler("CC", "cc").expect("the tests of a C interface need a C compiler");
    let folder = tempdir().unwrap();
    let driver = folder.path().join("libcuda.so.1");
    let source = root().join("../tests/cuda_driver.c");
    run(Command::new(&cc).args(["-shared", "-fPIC", "-O1"]).arg(source).arg("-lm").arg("-o").arg(&driver));
    // The name that is tried first must not find another.
    std::os::unix::fs::symlink(&driver, folder.path().join("libcuda.so")).unwrap();

    let (program, report) = (folder.path().join("stream"), folder.path().join("report"));
    let mut command = Command::new(&cc);
    command.current_dir(root().join("tests/c")).args([
        "-std=c99",
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
    ]);
    command.arg("-I").arg(root().join("include")).arg("stream.c").arg("-o").arg(&program);
    command.arg("-L").arg(library_folder()).args(["-lidlora_capi", "-lm"]);
    command.arg(format!("-Wl,-rpath,{}", library_folder().display()));
    command.arg("-L").arg(folder.path()).arg("-l:libcuda.so.1");
    run(&mut command);
    run(Command::new(&program).env("LD_LIBRARY_PATH", folder.path()).env("PAPER_REPORT", &report));

    let report = std::fs::read_to_string(&report).unwrap();
    for name in ["allocations", "modules", "events", "contexts", "wrong"] {
        assert!(report.lines().any(|line| line == format!("{name} 0")), "{report}");
    }
}
