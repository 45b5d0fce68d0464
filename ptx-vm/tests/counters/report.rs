//! The report says what the counters say, in rows that a reader finds.

use crate::common;
use crate::measure::{Measured, line_of, measure};
use ptx_vm::isa::Class;
use ptx_vm::{Arg, Memory};

/// The words of every row that begins so.
fn rows(report: &str, begin: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    report.lines().map(words).filter(|line| line.starts_with(begin)).collect()
}

fn zeros(memory: &mut Memory, name: &str) -> Arg {
    let buffer = memory.upload(&[0_u32; 1 << 14]).unwrap();
    memory.name(&buffer, name).unwrap();
    buffer.into()
}

fn operands() -> Option<Measured> {
    measure("counters/global.cu", "operands", &common::shape(100, 64), |memory| {
        ["out", "x", "y", "unused"].map(|name| zeros(memory, name)).to_vec()
    })
}

/// 100 blocks of 64 threads: 200 warps read `x` and write `out`, 128 bytes each; 100 of them read 8 words of `y`, every
/// second one.
#[test]
fn instructions_and_device_memory() {
    let Some(measured) = operands() else { return };
    let report = measured.counters.to_string();
    // Requests, bytes requested, sectors, different bytes, bytes requested for each byte moved.
    assert_eq!(rows(&report, "x "), ["x read 200 25,600 800 25,600 100.0 %"]);
    assert_eq!(rows(&report, "y "), ["y read 100 3,200 200 3,200 50.0 %"]);
    assert_eq!(rows(&report, "out "), ["out written 200 25,600 800 25,600 100.0 %"]);
    assert_eq!(rows(&report, "unused"), [""; 0]);
    // The store by every warp, two loads and the third by every second one.
    let global = measured.counters.class(Class::Global);
    assert_eq!(global, 200 + 200 + 100);
    assert_eq!(rows(&report, "Global"), [format!("Global {global} 13,600 85.0 %")]);
    assert_eq!(rows(&report, "Tensor"), [""; 0]);
    let line = line_of("counters/global.cu", "operands", "// X");
    let count = measured.line(line).warp_instructions;
    let hot = report.lines().find(|row| row.contains(&format!("global.cu:{line} "))).expect("the line's row");
    assert!(hot.split_whitespace().any(|word| word.replace(',', "") == count.to_string()), "{hot}");
    assert!(hot.split_whitespace().any(|word| word == "800"), "{hot}");
}

#[test]
fn shared_memory_tensor_cores_and_barriers() {
    let measured = measure("counters/shared.cu", "read_words", &common::shape(1, 32), |memory| {
        vec![zeros(memory, "out"), Arg::value(32_i32), Arg::value(32_i32)]
    });
    let Some(measured) = measured else { return };
    let report = measured.counters.to_string();
    // 1,100 words are filled in 35 rounds, the last of 12 threads: 35 passes. The read takes 32.
    assert_eq!(rows(&report, "shared memory"), ["shared memory: 36 requests, 4,528 bytes"]);
    assert_eq!(rows(&report, "67 passes"), ["67 passes, 31 of them conflicts"]);
    assert_eq!(rows(&report, "barriers"), ["barriers: 1 waits of a warp"]);
    assert!(!report.contains("tensor"), "{report}");

    let measured = measure("counters/matrix.cu", "products", &common::shape(3, 64), |memory| {
        vec![zeros(memory, "out"), Arg::value(5_i32)]
    });
    let Some(measured) = measured else { return };
    let report = measured.counters.to_string();
    assert_eq!(rows(&report, "tensor"), ["tensor cores: 60 products, 92,160 multiply-adds"]);
    assert!(!report.contains("shared memory") && !report.contains("barriers"), "{report}");
}

/// What has no line, no traffic and no barrier is told without them.
#[test]
fn hand_written_text() {
    let module = ptx_vm::Module::load(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry nothing()\n{\n  ret;\n}\n",
    )
    .unwrap();
    let launch = common::shape(2, 64);
    let outcome = launch.run(&module.kernel("nothing").unwrap(), &mut Memory::new()).unwrap();
    let report = outcome.counters.to_string();
    assert_eq!(rows(&report, "Control"), ["Control 4 128 100.0 %"]);
    assert_eq!(rows(&report, "all"), ["all 4 128 100.0 %"]);
    assert_eq!(report.lines().count(), 3, "{report}");
}
