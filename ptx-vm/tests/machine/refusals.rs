//! Launches that are refused before anything runs, each with an error that says what was expected and what was found.

use ptx_vm::{Arg, Kernel, Launch, LaunchError, Memory, MemoryError, Module};

const TEXT: &str = "
.version 9.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 data, .param .align 4 .b8 sizes[12])
.maxntid 64, 2, 1
{
    .shared .align 16 .b8 tile[1000];
    .local .align 16 .b8 stack[400000];
    .reg .b64 %a;
    mov.b64 %a, tile;
    mov.b64 %a, stack;
    ret;
}
.visible .entry exact()
.reqntid 96, 1, 1
{
    ret;
}";

fn kernel(name: &str) -> Kernel {
    Module::load(TEXT).unwrap().kernel(name).unwrap()
}

/// A launch of `k` that is accepted.
fn good(memory: &mut Memory) -> Launch {
    let data = memory.upload(&[1_u8; 16]).unwrap();
    Launch { args: vec![data.into(), Arg::value([1_u32; 3])], ..Launch::default() }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Launch), expected: &str) -> LaunchError {
    let mut memory = Memory::new();
    let mut launch = good(&mut memory);
    launch.run(&kernel("k"), &mut memory).unwrap();
    change(&mut launch);
    let error = launch.run(&kernel("k"), &mut memory).unwrap_err();
    assert_eq!(error.to_string(), expected);
    error
}

#[test]
fn a_kernel_says_what_it_takes() {
    let kernel = kernel("k");
    assert_eq!(kernel.parameters().collect::<Vec<_>>(), [("data", 8), ("sizes", 12)]);
    assert_eq!((kernel.shared_bytes(), kernel.local_bytes()), (1000, 400_000));
}

#[test]
fn arguments() {
    refused(|launch| _ = launch.args.pop(), "kernel `k` takes 2 arguments, 1 were given");
    let expected = "kernel `k`, argument 1 (`sizes`): 12 bytes expected, 8 given";
    refused(|launch| launch.args[1] = Arg::value(1_u64), expected);
    refused(|launch| launch.args[1] = Arg::bytes([0; 8]), expected);
    let foreign = Memory::new().upload(&[0_u8; 4]).unwrap();
    let mut memory = Memory::new();
    let launch = Launch { args: vec![foreign.into(), Arg::value([1_u32; 3])], ..good(&mut memory) };
    let error = launch.run(&kernel("k"), &mut memory).unwrap_err();
    assert!(matches!(error, LaunchError::Memory(MemoryError::UnknownBuffer(_))), "{error}");
}

#[test]
fn shapes() {
    refused(
        |launch| launch.grid = [1, 65536, 1],
        "grid is [1, 65536, 1]; each extent is at least 1 and at most [2147483647, 65535, 65535]",
    );
    refused(
        |launch| launch.block = [32, 0, 1],
        "block is [32, 0, 1]; each extent is at least 1 and at most [1024, 1024, 64]",
    );
    refused(|launch| launch.block = [129, 1, 1], "block is [129, 1, 1]; at most 128 threads");
    let exact = Launch::default().run(&kernel("exact"), &mut Memory::new()).unwrap_err();
    assert_eq!(exact.to_string(), "block is [32, 1, 1]; the kernel requires 96 threads");
    refused(|launch| launch.resident = 0, "`resident` must not be zero");
    refused(|launch| launch.step_limit = 0, "`step_limit` must not be zero");
}

#[test]
fn memory_of_blocks() {
    refused(|launch| launch.dynamic_shared = 240_000, "241000 bytes of shared memory in a block; at most 232448");
    let many = |launch: &mut Launch| (launch.grid, launch.block, launch.resident) = ([96, 1, 1], [128, 1, 1], 96);
    refused(many, "96 resident blocks need 4915296000 bytes of shared and local memory; at most 4294967296");
}

#[test]
fn names() {
    let error = Module::load(TEXT).unwrap().kernel("nothing").unwrap_err();
    assert_eq!(error.to_string(), "the module has no kernel `nothing`");
}
