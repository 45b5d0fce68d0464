//! What the kernels are given. `out` receives the answer; `in` holds the numbers from 0; `work` holds zeros; `raw` nothing.

use crate::case::Twin;
use ptx_vm::{Arg, Buffer, Memory, Slice};

const WORDS: usize = 64;

type Prepared = (Vec<Arg>, Buffer<u32>);

fn zeros(memory: &mut Memory) -> Buffer<u32> {
    memory.upload(&[0; WORDS]).expect("a small buffer")
}

fn numbers(memory: &mut Memory) -> Buffer<u32> {
    let numbers: Vec<u32> = (0..WORDS as u32).collect();
    memory.upload(&numbers).expect("a small buffer")
}

pub fn out(memory: &mut Memory, _: Twin) -> Prepared {
    let out = zeros(memory);
    (vec![out.into()], out)
}

pub fn out_in(memory: &mut Memory, _: Twin) -> Prepared {
    let (out, input) = (zeros(memory), numbers(memory));
    (vec![out.into(), input.into()], out)
}

pub fn out_work(memory: &mut Memory, _: Twin) -> Prepared {
    let (out, work) = (zeros(memory), zeros(memory));
    (vec![out.into(), work.into()], out)
}

pub fn out_raw(memory: &mut Memory, _: Twin) -> Prepared {
    let (out, raw) = (zeros(memory), memory.allocate::<u32>(WORDS).expect("a small buffer"));
    (vec![out.into(), raw.into()], out)
}

fn out_slice(memory: &mut Memory, slice: impl Fn(&Buffer<u32>) -> Slice<u32>) -> Prepared {
    let (out, input) = (zeros(memory), numbers(memory));
    (vec![out.into(), slice(&input).into()], out)
}

/// 32 words from the middle of `in`.
pub fn out_middle(memory: &mut Memory, _: Twin) -> Prepared {
    out_slice(memory, |input| input.slice(8..40))
}

/// All of `in` but the last two words.
pub fn out_most(memory: &mut Memory, _: Twin) -> Prepared {
    out_slice(memory, |input| input.slice(0..WORDS - 2))
}

/// The clean twin gets two buffers, the other the same one twice.
pub fn out_aliased(memory: &mut Memory, twin: Twin) -> Prepared {
    let (out, input) = (zeros(memory), numbers(memory));
    (vec![out.into(), if twin == Twin::Buggy { out } else { input }.into()], out)
}

/// A struct of N words by value.
fn table<const N: usize>() -> Arg
where
    [u32; N]: bytemuck::NoUninit,
{
    Arg::value(std::array::from_fn::<u32, N, _>(|i| i as u32 + 100))
}

pub fn out_in_table(memory: &mut Memory, twin: Twin) -> Prepared {
    let (mut args, out) = out_in(memory, twin);
    args.push(table::<8>());
    (args, out)
}

pub fn out_table(memory: &mut Memory, twin: Twin) -> Prepared {
    let (mut args, answer) = out(memory, twin);
    args.push(table::<64>());
    (args, answer)
}

fn out_in_offset(memory: &mut Memory, twin: Twin, offset: i32) -> Prepared {
    let (mut args, out) = out_in(memory, twin);
    args.push(Arg::value(if twin == Twin::Buggy { offset } else { 0 }));
    (args, out)
}

/// Pointers go astray by that many bytes; not in the clean twin.
pub fn off_by_2(memory: &mut Memory, twin: Twin) -> Prepared {
    out_in_offset(memory, twin, 2)
}

/// See [`off_by_2`].
pub fn off_by_4(memory: &mut Memory, twin: Twin) -> Prepared {
    out_in_offset(memory, twin, 4)
}

/// See [`off_by_2`].
pub fn off_by_8(memory: &mut Memory, twin: Twin) -> Prepared {
    out_in_offset(memory, twin, 8)
}
