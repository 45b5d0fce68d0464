//! Random programs in the machine, bit for bit against the naive interpreter.

use crate::program::{Memory, Numbers, check, generate, interpret, print};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn computes_what_the_tree_says(bytes in vec(any::<u8>(), 0..1500)) {
        check(&generate(&bytes)).map_err(TestCaseError::fail)?;
    }
}

/// Bytes of a program that is as large as they make it.
fn bytes(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let length = 100 + numbers.below(1500);
    (0..length).map(|_| numbers.next() as u8).collect()
}

/// The generator must say something: every statement that it knows turns up, and most programs change most of their output.
#[test]
fn programs_are_neither_empty_nor_all_alike() {
    let texts: Vec<String> = (0..300).map(|seed| print(&generate(&bytes(seed)))).collect();
    for word in [
        "fma.rn.f32",
        "shfl.sync.bfly",
        "vote.sync.ballot",
        "match.all",
        "redux.sync",
        "bar.red.popc",
        "brx.idx",
        "call (",
        "atom.global.cas",
        "atom.shared.add",
        "red.relaxed",
        "ld.local.v4",
        "st.shared.v2",
        "addc.u32",
        "exit;",
        "bar.sync 3",
        ".branchtargets",
        "@!%p0",
        "$L_stay",
        ".loc 1",
        ".extern .shared",
        "atom.exch",
        "ld.volatile",
        "%lanemask_lt",
    ] {
        assert!(texts.iter().any(|text| text.contains(word)), "no program contains `{word}`");
    }
    let changed = |seed: u64| {
        let program = generate(&bytes(seed));
        let (before, after) = (Memory::before(&program), interpret(&program));
        after != interpret(&generate(&[])) && after.slots != before.slots
    };
    assert!((0..300).filter(|seed| changed(*seed)).count() > 100);
}

#[test]
fn the_simplest_program_is_one_thread_block_without_statements() {
    let program = generate(&[]);
    assert!(program.body.is_empty() && program.functions.is_empty());
    assert_eq!((program.blocks(), program.threads()), (1, 32));
}

/// A step of the tree for every thread: the interpreter's time is bounded by the generator's budget.
#[test]
fn programs_are_small() {
    for seed in 0..300 {
        let text = print(&generate(&bytes(seed)));
        assert!(text.len() < 400_000, "seed {seed}: {} bytes", text.len());
    }
}

/// The assembler's opinion of the texts, where one is at hand: `PTXAS=… cargo test -- --ignored ptxas`.
#[test]
#[ignore = "needs the environment variable PTXAS"]
fn ptxas_accepts_what_is_printed() {
    let ptxas = std::env::var("PTXAS").expect("PTXAS is the path of ptxas");
    let count: u64 = std::env::var("PROGRAMS").map_or(300, |count| count.parse().expect("PROGRAMS is a number"));
    let folder = std::env::temp_dir().join(format!("ptx-vm-random-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for seed in 0..count {
        let file = folder.join("random.ptx");
        std::fs::write(&file, print(&generate(&bytes(seed)))).unwrap();
        let output = std::process::Command::new(&ptxas)
            .args(["--gpu-name", "sm_80", "-O0", "--output-file", "/dev/null"])
            .arg(&file)
            .output()
            .expect("PTXAS can be run");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "seed {seed}, {}:\n{complaint}", file.display());
    }
    std::fs::remove_dir_all(folder).unwrap();
}
