//! Any text at all: it loads or it does not, its kernels run to an end, and nothing panics or goes on for ever.

use ptx_vm::{Arg, Checks, Launch, LaunchError, LoadError, Memory, Module, Schedule};

/// Kernels of one text that are run; a text of thousands tells no more than one of a few.
const KERNELS: usize = 6;
/// Warp instructions of one launch.
const STEPS: u64 = 4000;
/// Bytes of each buffer that a kernel gets: less than most expect, so that bounds matter.
const BUFFER: usize = 1024;

/// Loads the text and runs its kernels, with every check, in an order drawn from `seed`. Returns how many ran.
///
/// # Errors
///
/// The loader's.
pub fn load_and_run(text: &str, seed: u64) -> Result<usize, LoadError> {
    let module = Module::load(text)?;
    let names: Vec<String> = module.kernels().take(KERNELS).map(str::to_owned).collect();
    Ok(names.iter().filter(|name| run(&module, name, seed)).count())
}

/// Runs the kernel on small buffers; false if no launch of it is accepted.
fn run(module: &Module, name: &str, seed: u64) -> bool {
    let kernel = module.kernel(name).expect("the module itself names it");
    let mut memory = Memory::new();
    let buffers: Vec<Arg> = (0..4).map(|i| memory.upload(&[i as u8; BUFFER]).expect("4 KiB fit").into()).collect();
    let mut launch = Launch {
        grid: [2, 1, 1],
        block: [48, 1, 1],
        dynamic_shared: BUFFER as u32,
        checks: Checks::GLOBAL_RACES,
        schedule: if seed.is_multiple_of(2) { Schedule::InOrder } else { Schedule::Random },
        seed,
        resident: 2,
        step_limit: STEPS,
        ..Launch::default()
    };
    for (i, (_, size)) in kernel.parameters().enumerate() {
        let buffer = buffers[i % buffers.len()].clone();
        launch.args.push(if size == 8 { buffer } else { Arg::bytes(vec![3; size as usize]) });
    }
    // Shapes that the kernel itself may demand or exclude.
    for _ in 0..3 {
        match launch.run(&kernel, &mut memory) {
            Ok(_) => return true,
            Err(LaunchError::Shape { .. }) => launch.block = [1, 1, 1],
            Err(LaunchError::Shared { .. }) => launch.dynamic_shared = 0,
            Err(_) => return false,
        }
    }
    false
}
