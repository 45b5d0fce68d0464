//! Where the library lies that C programs link, and how they are made.
#![allow(dead_code)] // each test takes what it needs

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The package's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the shared library: cargo builds it for these tests, and puts it beside their executables.
pub fn library_folder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().to_path_buf();
    let library = folder.join(library_name());
    assert!(library.is_file(), "{} was not built", library.display());
    folder
}

/// Its name on this platform.
pub fn library_name() -> String {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    format!("{prefix}idlora_capi{suffix}")
}

/// The output of a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The compiler for a language, if there is one: `$CC` or `cc`, `$CXX` or `c++`.
pub fn compiler(variable: &str, otherwise: &str) -> Option<String> {
    let name = std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned());
    Command::new(&name).arg("--version").output().is_ok_and(|output| output.status.success()).then_some(name)
}

/// Compiles sources of `tests/c` (or elsewhere) to a program that finds the library where it was built.
pub fn compile<S: AsRef<OsStr>>(compiler: &str, flags: &[&str], sources: &[S], program: &Path) {
    let folder = library_folder();
    let mut command = Command::new(compiler);
    command.current_dir(root().join("tests/c")).args(flags).args([
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
    ]);
    command.arg("-I").arg(root().join("include")).args(sources).arg("-o").arg(program);
    command.arg("-L").arg(&folder).arg("-lidlora_capi").arg("-lm");
    command.arg(format!("-Wl,-rpath,{}", folder.display()));
    run(&mut command);
}
