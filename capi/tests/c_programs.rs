//! C programs that are written against the header, linked with the shared library and run. They need a C compiler.
#![cfg(unix)]

mod common;

use common::{compile, compiler, run};
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

const C: &[&str] = &["-std=c99"];

fn cc() -> String {
    compiler("CC", "cc").expect("the tests of a C interface need a C compiler")
}

/// The devices of this build that can be had here.
fn devices() -> Vec<&'static str> {
    let vm = cfg!(feature = "vm").then(|| "vm".parse::<idlora::Device>().expect("a device of this build"));
    match vm {
        #[cfg(feature = "vm")]
        Some(idlora::Device::Vm(vm)) => match vm.probe() {
            Ok(()) => vec!["cpu", "vm"],
            Err(reason) if std::env::var_os("REQUIRE_NVRTC").is_none() => {
                eprintln!("skipped on vm: {reason}");
                vec!["cpu"]
            }
            Err(reason) => panic!("{reason}"),
        },
        _ => vec!["cpu"],
    }
}

#[test]
fn the_library_is_the_one_that_was_just_built() {
    let source = r#"
        #include <idlora.h>
        #include <stdio.h>
        int main(void) {
            idlora_device *vm;
            printf("%s %d\n", idlora_version(), idlora_device_open("vm", &vm) == IDLORA_STATUS_OK && idlora_device_close(vm) == 0);
            return 0;
        }
    "#;
    let folder = tempdir().unwrap();
    let (file, program) = (folder.path().join("version.c"), folder.path().join("version"));
    std::fs::write(&file, source).unwrap();
    compile(&cc(), C, &[&file], &program);
    let expected = format!("{} {}\n", env!("CARGO_PKG_VERSION"), u8::from(cfg!(feature = "vm")));
    let found = String::from_utf8(run(&mut Command::new(program)).stdout).unwrap();
    // Cargo does not put a library back that a build with other features has overwritten: touch its source.
    assert_eq!(found, expected, "version, and whether there is `vm`: the library beside this test is of another build");
}

#[test]
fn the_numbers_are_those_of_the_formula() {
    let folder = tempdir().unwrap();
    let program = folder.path().join("numbers");
    compile(&cc(), C, &["numbers.c", "formula.c", "element.c"], &program);
    for device in devices() {
        let output = run(Command::new(&program).arg(device));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.ends_with("\n90 cases\n"), "{said}");
    }
}

#[test]
fn adapters_go_through_files() {
    let folder = tempdir().unwrap();
    let program = folder.path().join("files");
    compile(&cc(), C, &["files.c", "formula.c", "element.c"], &program);
    let saved = folder.path().join("adapter");
    run(Command::new(&program).arg(&saved));
    assert_rust_reads(&saved);
}

/// What C has saved is what the library's own reader expects.
fn assert_rust_reads(saved: &Path) {
    let adapters = idlora::format::native::load(saved).unwrap();
    let names: Vec<&str> = adapters.iter().map(|adapter| adapter.name()).collect();
    assert_eq!(names, ["layer.0.key", "layer.0.query"]);
    assert_eq!((adapters[1].rows(), adapters[1].cols(), adapters[1].config().rank), (16, 6, 2));
    assert!(adapters.iter().all(|adapter| adapter.b().iter_rows().flatten().any(|&x| x != 0.0)));
}

#[test]
fn what_is_wrong_is_refused_in_words() {
    let folder = tempdir().unwrap();
    let program = folder.path().join("refusals");
    compile(&cc(), C, &["refusals.c"], &program);
    let absent = if cfg!(feature = "vm") { "cuda:7777" } else { "vm" };
    for device in devices() {
        run(Command::new(&program).arg(device).arg(absent).arg(folder.path().join("absent")));
    }
    assert!(!folder.path().join("absent").exists());
}

/// The program of the README, word for word.
#[test]
fn the_example_runs() {
    let folder = tempdir().unwrap();
    let program = folder.path().join("example");
    compile(&cc(), C, &["example.c"], &program);
    let said = String::from_utf8(run(&mut Command::new(program)).stdout).unwrap();
    let value: f64 = said.strip_prefix("y[0] = ").unwrap().trim().parse().unwrap();
    // κ = 32/2, the gate weighs both components by 1/2, a row of B is (0.1, 0.1): y[0] += 0.8 Σ x, where x are four
    // of the base outputs 0, 1, 2, 3, 4, 0, 1, 2.
    let sums = value / 0.8;
    assert!((sums - sums.round()).abs() < 1e-4 && (1.0..=11.0).contains(&sums.round()), "{said}");

    let readme = std::fs::read_to_string(common::root().join("README.md")).unwrap();
    let source = std::fs::read_to_string(common::root().join("tests/c/example.c")).unwrap();
    assert!(readme.contains(&format!("```c\n{source}```")), "README.md does not show tests/c/example.c");
}

/// The header is C++ as well, and everything in it can be linked.
#[test]
fn every_function_of_the_header_is_there() {
    let header = std::fs::read_to_string(common::root().join("include/idlora.h")).unwrap();
    let declared: Vec<&str> = header
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && !line.starts_with("typedef"))
        .filter_map(|line| {
            let name = line.split('(').next().filter(|_| line.contains('('))?.split([' ', '*']).next_back()?;
            name.starts_with("idlora_").then_some(name)
        })
        .collect();
    assert!(declared.len() > 30, "{declared:?}");
    let calls: String = declared.iter().map(|name| format!("    (fun)&{name},\n")).collect();
    let source = format!(
        "#include <idlora.h>\n#include <stdio.h>\ntypedef void (*fun)(void);\nstatic const fun all[] = {{\n{calls}}};\n\
         int main(void) {{\n    unsigned i, n = 0;\n    for (i = 0; i < sizeof all / sizeof *all; i++) n += all[i] != 0;\n    \
         printf(\"%u\\n\", n);\n    return 0;\n}}\n"
    );
    let folder = tempdir().unwrap();
    let mut languages = vec![(cc(), "all.c", "-std=c99")];
    languages.extend(compiler("CXX", "c++").map(|compiler| (compiler, "all.cc", "-std=c++11")));
    for (compiler, name, standard) in languages {
        let (file, program) = (folder.path().join(name), folder.path().join(format!("{name}.out")));
        std::fs::write(&file, &source).unwrap();
        // Functions are of many types; that they are there is all that is asked.
        compile(&compiler, &[standard, "-Wno-cast-function-type"], &[&file], &program);
        let said = String::from_utf8(run(&mut Command::new(program)).stdout).unwrap();
        assert_eq!(said.trim(), declared.len().to_string());
    }
}

/// The programs themselves are C++ too, but for the compound literals of the example.
#[test]
fn a_cpp_program_gets_the_same() {
    let Some(compiler) = compiler("CXX", "c++") else {
        eprintln!("skipped: no C++ compiler");
        return;
    };
    let folder = tempdir().unwrap();
    let program = folder.path().join("files");
    let flags = ["-std=c++11", "-x", "c++", "-Wno-variadic-macros", "-Wno-long-long"];
    compile(&compiler, &flags, &["files.c", "formula.c", "element.c"], &program);
    run(Command::new(&program).arg(folder.path().join("adapter")));
}
