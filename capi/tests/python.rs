//! The Python module over the C interface: its numpy example checks itself. `$IDLORA_PYTHON` (python3) runs it; without numpy it is
//! skipped, unless `IDLORA_REQUIRE_NUMPY=1`.
#![cfg(unix)]

mod common;

use common::{library_folder, library_name, root, run};
use std::process::Command;

fn python() -> Command {
    let mut command = Command::new(std::env::var("IDLORA_PYTHON").unwrap_or_else(|_| "python3".to_owned()));
    command.env("IDLORA_CAPI", library_folder().join(library_name())).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut path = vec![root().join("python")];
    path.extend(std::env::var_os("PYTHONPATH").iter().flat_map(std::env::split_paths)); // where numpy may lie
    command.env("PYTHONPATH", std::env::join_paths(path).expect("paths that were joined before"));
    command
}

/// Whether there is an interpreter that can import a module.
fn imports(module: &str) -> bool {
    let output = python().args(["-c", &format!("import {module}")]).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn the_numpy_example_trains() {
    if !imports("numpy") {
        let required = std::env::var_os("IDLORA_REQUIRE_NUMPY").is_some_and(|value| value == "1");
        assert!(!required, "IDLORA_REQUIRE_NUMPY=1, and there is no numpy");
        eprintln!("skipped: no numpy");
        return;
    }
    let output = run(python().arg(root().join("python/example_numpy.py")));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("example_numpy: all well"), "{said}");
}

/// Without numpy: structs of the module are those of the header, device memory, arrays of the standard library, refusals.
#[test]
fn the_module_stands_on_the_standard_library_alone() {
    if !imports("ctypes") {
        eprintln!("skipped: no python3");
        return;
    }
    let mut devices = vec!["cpu"];
    if cfg!(feature = "vm") && std::env::var_os("REQUIRE_NVRTC").is_some() {
        devices.push("vm");
    }
    let output = run(python().arg(root().join("tests/python/standard.py")).args(devices));
    assert!(String::from_utf8(output.stdout).unwrap().contains("standard: all well"));
}
