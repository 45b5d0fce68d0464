//! A hostile text ends in an error, soon and without gigabytes.

use super::{error, kernel, text};
use std::fmt::Write;
use std::time::{Duration, Instant};

fn refused(text: &str, what: &str) {
    let start = Instant::now();
    let message = error(text).to_string();
    assert!(message.contains(what) && message.contains("exceeds the limit"), "{message}");
    assert!(message.len() < 1000, "a message of {} bytes", message.len());
    assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
}

#[test]
fn sizes() {
    refused(&kernel(".shared .b8 x[233473];"), "shared memory");
    refused(&kernel(".local .b8 x[4294967296];"), "variable");
    refused(&kernel(".local .b8 x[1000000];"), "local memory");
    refused(&text(".global .b8 x[9223372036854775807];"), "variable");
    refused(&text(".global .b8 x[4294967296][4294967296];"), "variable");
    refused(&text(".global .b8 x[1073741824]; .global .b8 y[1];"), "variables");
    refused(&text(".global .b8 x[2][500000000] = {{1}, {2}};"), "initial values");
    refused(&text(".global .align 131072 .b8 x;"), "alignment");
    refused(&text(".entry k(.param .b8 x[40000]) { ret; }"), "parameters");
    refused(&text(".entry k .maxntid 1025, 1, 1 { ret; }"), "threads");
    refused(&text(".entry k .reqntid 65536, 65536, 65536 { ret; }"), "threads");
    refused(&text(".file 4294967295 \"a.cu\""), "file");
    refused(&" ".repeat((16 << 20) + 1), "bytes of text");
}

#[test]
fn depth() {
    refused(&kernel(&"{".repeat(1_000_000)), "nesting");
    refused(&kernel(&format!("mov.b32 %r1, {}", "{".repeat(1_000_000))), "nesting");
    refused(&kernel(&format!("mov.b32 %r1, {}", "(".repeat(1_000_000))), "nesting");
    refused(&text(&format!(".global .b8 x{}", "[1]".repeat(1_000_000))), "extents");
}

#[test]
fn lengths() {
    refused(&kernel(&"trap;".repeat(1 << 20)), "statements");
    refused(&kernel(&format!("mov.b32 %r1, {{{}}};", "%h1,".repeat(1 << 20))), "operands");
    let registers: String = (0..70_000).fold(String::new(), |mut text, i| {
        write!(text, "mov.u32 x{i}, 1;").unwrap();
        text
    });
    refused(&kernel(&format!(".reg .u32 x<4000000000>; {registers}")), "registers");
    let constants: String = (0..70_000).fold(String::new(), |mut text, i| {
        write!(text, "mov.u32 %r1, {i};").unwrap();
        text
    });
    refused(&kernel(&constants), "registers");
}

/// Functions are repeated in every kernel: ten thousand kernels that call a long one are a gigabyte.
#[test]
fn expansion() {
    let mut hostile = format!(".func f {{ {} ret; }}\n", "trap;".repeat(10_000));
    for kernel in 0..10_000 {
        writeln!(hostile, ".entry k{kernel} {{ call f; ret; }}").unwrap();
    }
    refused(&text(&hostile), "statements of all kernels");
    // The same with names instead of instructions.
    let name = "n".repeat(100_000);
    let mut hostile = format!(".func f {{ .local .b8 {name}; ret; }}\n");
    for kernel in 0..100_000 {
        writeln!(hostile, ".entry k{kernel} {{ call f; ret; }}").unwrap();
    }
    refused(&text(&hostile), "statements of all kernels");
}

#[test]
fn a_long_chain_of_calls_needs_no_stack() {
    let mut chain = String::from(".func f0 { ret; }\n");
    for level in 1..50_000 {
        writeln!(chain, ".func f{level} {{ call f{}; ret; }}", level - 1).unwrap();
    }
    writeln!(chain, ".entry k {{ call f49999; ret; }}").unwrap();
    assert!(ptx_vm::Module::load(&text(&chain)).is_ok());
}
