//! The machine against the interpreter.

use super::interpret::{Memory, OUTPUT, interpret};
use super::print::print;
use super::tree::{Program, REGION};
use ptx_vm::{Arg, Buffer, Checks, Launch, Module, Schedule};

/// Runs the program under several schedules and compares with what it must compute.
///
/// # Errors
///
/// What differs, with the text.
pub fn check(program: &Program) -> Result<(), String> {
    let text = print(program);
    let expected = interpret(program);
    let module = Module::load(&text).map_err(|error| format!("{error}\n{text}"))?;
    // Without checks memory takes shorter ways; nothing here races between blocks either.
    let runs = [
        (Schedule::InOrder, 0, 1, Checks::ALL),
        (Schedule::InOrder, 0, 2, Checks::NONE),
        (Schedule::Random, program.seed, 1, Checks::NONE),
        (Schedule::Random, program.seed ^ 1, 3, Checks::ALL),
        (Schedule::Random, program.seed ^ 2, 64, Checks::GLOBAL_RACES),
    ];
    for (schedule, seed, resident, checks) in runs {
        let launch = Launch {
            grid: program.grid,
            block: program.block,
            dynamic_shared: if program.dynamic { 8 * program.threads() } else { 0 },
            checks,
            schedule,
            seed,
            resident,
            step_limit: 10_000_000,
            ..Launch::default()
        };
        run(program, &module, launch, &expected)
            .map_err(|error| format!("{schedule:?}, seed {seed}, {resident} resident: {error}\n{text}"))?;
    }
    Ok(())
}

fn run(program: &Program, module: &Module, mut launch: Launch, expected: &Memory) -> Result<(), String> {
    let before = Memory::before(program);
    let error = |error: &dyn std::fmt::Display| error.to_string();
    let mut memory = ptx_vm::Memory::new();
    let mut upload = |data: &[u64]| memory.upload(data).map_err(|e| error(&e));
    let buffers: [Buffer<u64>; 4] =
        [upload(&before.variables)?, upload(&before.slots)?, upload(&before.totals)?, upload(&before.output)?];
    let [variables, slots, totals, output] = buffers;
    let (byte, float, short, long) = before.scalars;
    launch.args = vec![
        variables.into(),
        Arg::value(byte),
        slots.into(),
        Arg::value(float),
        Arg::value(short),
        totals.into(),
        Arg::value(long),
        output.into(),
    ];
    let kernel = module.kernel("random").map_err(|e| error(&e))?;
    let outcome = launch.run(&kernel, &mut memory).map_err(|e| error(&e))?;
    if let Some(finding) = outcome.findings.first() {
        return Err(finding.to_string());
    }
    if !outcome.completed {
        return Err("not completed, and nothing found".to_owned());
    }
    let named = [
        ("variables", variables, &expected.variables, before.variables.len()),
        ("slots", slots, &expected.slots, REGION / 8),
        ("totals", totals, &expected.totals, before.totals.len()),
        ("output", output, &expected.output, OUTPUT),
    ];
    for (name, buffer, expected, stride) in named {
        let found = memory.download(&buffer).map_err(|e| error(&e))?;
        if let Some(i) = (0..found.len()).find(|i| found[*i] != expected[*i]) {
            let (thread, word) = (i / stride, i % stride);
            return Err(format!("{name}, thread {thread}, word {word}: {:#x}, must be {:#x}", found[i], expected[i]));
        }
    }
    Ok(())
}
