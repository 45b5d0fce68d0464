//! Random programs, against the naive interpreter of the tests.
#![no_main]

#[path = "../../tests/random/program/mod.rs"]
#[allow(dead_code, unused_imports)] // the tests use more of it
mod program;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = program::check(&program::generate(bytes)) {
        panic!("{error}");
    }
});
