//! The loader from outside: what it refuses, where it says so, and that nothing makes it panic.

mod errors;
mod limits;
mod mutation;

use ptx_vm::{LoadError, Module};

/// A module of these directives, from line 4 on.
fn text(directives: &str) -> String {
    format!(".version 9.0\n.target sm_80\n.address_size 64\n{directives}")
}

/// A module with one kernel; the body begins on line 6.
fn kernel(body: &str) -> String {
    text(&format!(
        ".visible .entry k(.param .u64 a, .param .align 8 .b8 s[24]) {{ .reg .pred %p<4>; .reg .b16 %h<4>;\n\
         .reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .f32 %f<4>;\n{body}\nret; }}"
    ))
}

fn error(text: &str) -> LoadError {
    match Module::load(text) {
        Ok(_) => panic!("loaded:\n{text}"),
        Err(error) => error,
    }
}

/// Every case is a text, and the line, the column and a part of the message of the error that it must give.
fn check(cases: &[(&str, u32, u32, &str)], wrap: impl Fn(&str) -> String) {
    for (case, line, column, message) in cases {
        let error = error(&wrap(case));
        assert_eq!((error.line, error.column), (*line, *column), "{case}\n{error}");
        assert!(error.to_string().contains(message), "{case}\n{error}");
    }
}

#[test]
fn a_module_says_what_it_is() {
    let module = Module::load(&text(".visible .entry a() { ret; }\n.entry b { ret; }")).unwrap();
    assert_eq!((module.version(), module.target()), ((9, 0), "sm_80"));
    assert_eq!(module.kernels().collect::<Vec<_>>(), ["a", "b"]);
    assert!(module.kernel("c").is_err());
    assert_eq!(module.kernel("b").unwrap().instructions(), 1);
}

#[test]
fn every_construct_of_the_sample_loads() {
    let module = Module::load(include_str!("sample.ptx")).unwrap();
    let kernel = module.kernel("everything").unwrap();
    assert_eq!((kernel.shared_bytes(), kernel.local_bytes()), (72, 40));
}
