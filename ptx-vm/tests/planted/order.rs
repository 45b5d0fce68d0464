//! Results that hang on the order in which blocks and warps take turns: told by running under several seeds.

use crate::{common, setup};
use ptx_vm::{Arg, Buffer, FindingKind, Launch, Memory};

const SEEDS: [u64; 6] = [1, 2, 3, 4, 5, 6];

#[test]
fn order_dependence() {
    type Setup = fn(&mut Memory, crate::case::Twin) -> (Vec<Arg>, Buffer<u32>);
    let cases: [(&str, Setup); 4] = [
        ("float_blocks", setup::out_in),
        ("float_warps", setup::out_in),
        ("last_writer", setup::out),
        ("ticket", setup::out_in),
    ];
    let Some(module) = common::load("planted/order.cu") else { return };
    for (name, setup) in cases {
        for (suffix, twin) in [("buggy", crate::case::Twin::Buggy), ("clean", crate::case::Twin::Clean)] {
            let name = format!("{name}_{suffix}");
            let kernel = module.kernel(&name).unwrap();
            let mut memory = Memory::new();
            let (args, _) = setup(&mut memory, twin);
            let launch = Launch { args, resident: 3, ..common::shape(8, 64) };
            let outcome = launch.run_under(&SEEDS, &kernel, &mut memory).unwrap();
            assert!(outcome.completed, "{name}");
            let told: String = outcome.findings.iter().map(|finding| format!("\n  {finding}")).collect();
            let depends = outcome.findings.iter().all(|finding| finding.kind == FindingKind::OrderDependence);
            let expected = suffix == "buggy";
            assert!(depends && outcome.findings.is_empty() != expected, "{name}{told}");
            assert!(outcome.findings.iter().all(|finding| finding.kernel == name), "{name}{told}");
        }
    }
}
