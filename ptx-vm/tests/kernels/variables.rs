//! Variables of a module.

use crate::common;
use ptx_vm::{Checks, Launch, Memory, Module};

fn module() -> Option<Module> {
    common::load("kernels/variables.cu")
}

#[test]
fn initial_values_and_pointers_between_variables() {
    let Some(module) = module() else { return };
    let found = common::run(&module.kernel("read_all").unwrap(), &common::shape(1, 32), |memory| {
        let out = memory.upload(&[-1.0f64; 26]).unwrap();
        (vec![out.into()], out)
    });
    let table = [1.0, -2.5, 3.25, 0.0, f64::from(1e-3f32), 0.0, 0.0, 0.0];
    let entries = [f64::from(b'x'), f64::from(b'y'), -3.0, 12.0, 0.125, -1e300, 10.0, 40.0];
    let bytes = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0];
    let pointed = [20.0, 30.0, 40.0];
    let expected = [&table[..], &entries, &bytes, &pointed, &[0.0]].concat();
    assert_eq!(found, expected);
}

/// Runs `touch` in this memory; what it saw of the counter.
fn touch(module: &Module, memory: &mut Memory) -> u32 {
    let seen = memory.allocate::<u32>(1).unwrap();
    let launch = Launch { args: vec![seen.into()], checks: Checks::GLOBAL_RACES, ..common::shape(1, 32) };
    common::assert_clean(&launch.run(&module.kernel("touch").unwrap(), memory).unwrap(), "touch");
    memory.download(&seen).unwrap()[0]
}

#[test]
fn they_outlive_launches_and_the_host_reads_and_writes_them() {
    let Some(module) = module() else { return };
    let mut memory = Memory::new();
    let scale = memory.variable(&module, "scale").unwrap();
    assert_eq!(memory.download(&scale).unwrap(), [0; 4]);
    memory.write(&scale, &3u32.to_le_bytes()).unwrap();
    assert_eq!([touch(&module, &mut memory), touch(&module, &mut memory)], [41, 42]);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let launches = memory.variable(&module, "launches").unwrap();
    assert_eq!(word(&memory.download(&launches).unwrap()), 43);
    let scratch = memory.variable(&module, "scratch").unwrap();
    let scratch: Vec<u64> = memory.download(&scratch).unwrap().chunks(8).map(word).collect();
    assert_eq!(scratch, (0..32).map(|i| 2 * 3 * i).collect::<Vec<_>>());
    assert!(memory.variable(&module, "nothing").is_err());
    // Another memory has variables of its own.
    assert_eq!(touch(&module, &mut Memory::new()), 41);
}
