//! Every pure spelling that the loader accepts, as a kernel of one instruction, against [`Instruction::eval`].
//!
//! What an operation means is tested elsewhere; here the machine's vector loops, register files, guards, negated predicates,
//! second results, wide registers and immediates are held to that one meaning.

mod kernel;

use crate::program::Numbers;
use kernel::{LANES, Shape};
use ptx_vm::isa::{Alu, Decoded, Instruction, Op, opcode_table};
use ptx_vm::{Buffer, Launch, Memory, Module, Schedule};

/// Variants of each instruction: which registers, which immediates, which guard is drawn anew for each.
const VARIANTS: usize = 4;

/// A seed is every spelling: there is nothing to shrink, and more seeds cost seconds each.
#[test]
fn the_machine_executes_pure_operations_as_they_evaluate() {
    for seed in [1, 2] {
        let mut numbers = Numbers(seed);
        for (pattern, instructions) in opcode_table() {
            let pure: Vec<Instruction> = instructions.into_iter().filter_map(completed).collect();
            check(&pure, &mut numbers).unwrap_or_else(|error| panic!("seed {seed}, {pattern}: {error}"));
        }
    }
}

/// A pure instruction, with the part of its operation that comes from the text; `None` for the others and for those whose
/// operands are vectors.
fn completed(instruction: Instruction) -> Option<Instruction> {
    let Op::Alu(alu) = instruction.decoded.op else { return None };
    let alu = if let Alu::Lop3(_) = alu { Alu::Lop3(kernel::LOP3) } else { alu };
    let decoded = Decoded { op: Op::Alu(alu), ..instruction.decoded };
    kernel::is_plain(&decoded.operands).then_some(Instruction { decoded, ..instruction })
}

/// Runs some variants of each instruction.
fn check(instructions: &[Instruction], numbers: &mut Numbers) -> Result<(), String> {
    let shapes: Vec<Shape> = instructions
        .iter()
        .flat_map(|instruction| std::iter::repeat_n(instruction, VARIANTS))
        .map(|instruction| Shape::draw(instruction, numbers))
        .collect();
    for shapes in shapes.chunks(100) {
        let kernels: Vec<String> = shapes.iter().enumerate().map(|(i, shape)| shape.kernel(i)).collect();
        let text = format!(".version 8.6\n.target sm_80\n.address_size 64\n{}", kernels.concat());
        let module = Module::load(&text).map_err(|error| format!("{error}\n{}", line(&text, error.line)))?;
        for (i, shape) in shapes.iter().enumerate() {
            let inputs: Vec<u64> = (0..kernel::INPUTS * LANES).map(|_| numbers.register()).collect();
            let outputs = run(&module, &format!("k{i}"), &inputs)?;
            for lane in 0..LANES {
                let x = std::array::from_fn(|i| inputs[i * LANES + lane]);
                let (found, expected) = ([outputs[lane], outputs[LANES + lane]], shape.expected(x));
                if found != expected {
                    return Err(format!("{}lane {lane}, {x:x?}: {found:x?}, must be {expected:x?}", kernels[i]));
                }
            }
        }
    }
    Ok(())
}

/// The line that the loader refused, with its neighbours.
fn line(text: &str, number: u32) -> String {
    let lines = text.lines().skip((number as usize).saturating_sub(3)).take(4);
    lines.collect::<Vec<_>>().join("\n")
}

fn run(module: &Module, name: &str, inputs: &[u64]) -> Result<Vec<u64>, String> {
    let mut memory = Memory::new();
    let result = (|| {
        let input: Buffer<u64> = memory.upload(inputs)?;
        let output: Buffer<u64> = memory.upload(&vec![0; 2 * LANES])?;
        let launch = Launch {
            block: [LANES as u32, 1, 1],
            args: vec![input.into(), output.into()],
            schedule: Schedule::InOrder,
            ..Launch::default()
        };
        let outcome = launch.run(&module.kernel(name)?, &mut memory)?;
        Ok::<_, ptx_vm::LaunchError>((outcome, memory.download(&output)?))
    })();
    let (outcome, output) = result.map_err(|error| error.to_string())?;
    match outcome.findings.first() {
        Some(finding) => Err(finding.to_string()),
        None => Ok(output),
    }
}
