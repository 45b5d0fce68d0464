//! The adapter's forward of a few tokens: Y0 and Y once, B once per token group, the chosen columns once more a block, in place and
//! out of place; and how much shorter the longest of its blocks is than the one that would do it all.

use super::*;
use crate::common::branch::{Problem, desc};
use idlora::MatMut;
use idlora::lowrank::{Bias, Desc, Gate, Output, Plan};

const COMPONENTS: usize = 4;
const SPLIT: usize = 2;

/// Y0, B and their sizes.
struct Case {
    drawn: Problem<bf16>,
    y0: Vec<bf16>,
    tokens: usize,
}

impl Case {
    fn new(tokens: usize, rows: usize, rank: usize) -> Self {
        let shape = Desc { gate: Gate::Inner, bias: Bias::None, ..desc(rows, 8, rank, COMPONENTS, SPLIT) };
        // B and the gate as drawn; Y0 without the product that a random one is drawn by.
        let drawn = Problem::<bf16>::random(shape, 0, None, 1).padded(0, 0, 0);
        Self { drawn, y0: weights::<bf16>(&Draw::new(2).gaussian(tokens, rows)), tokens }
    }

    fn launched(&self, device: &Device, vm: &Vm, in_place: bool) -> Launched {
        let (tokens, rows) = (self.tokens, self.drawn.desc.rows);
        let mut y = if in_place { self.y0.clone() } else { vec![bf16::ZERO; tokens * rows] };
        let y = MatMut::new(&mut y, tokens, rows).unwrap();
        let output = if in_place {
            Output::InPlace(y)
        } else {
            Output::OutOfPlace { y0: MatRef::new(&self.y0, tokens, rows).unwrap(), y }
        };
        vm.take_launches();
        let plan = Plan::new(device, self.drawn.desc).unwrap();
        plan.forward(&self.drawn.parameters(), &self.drawn.layer(), output, None).unwrap();
        let mut launches = vm.take_launches();
        assert_eq!(launches.len(), 1, "one launch");
        launches.remove(0)
    }
}

/// Bank conflicts elsewhere than where chosen columns of one window are marked: lanes that add bits to one word take turns.
fn conflicts_but_marking(launches: &[Launched]) -> u64 {
    let source = include_str!("../../kernels/common/decode.cuh");
    let marking = 1 + source.lines().position(|line| line.contains("atomicOr(")).unwrap() as u32;
    let lines = launches.iter().flat_map(|launch| launch.counters.lines());
    let marks = |line: &u32, file: &str| *line == marking && file.ends_with("decode.cuh");
    let elsewhere = lines.filter(|line| !line.source.as_ref().is_some_and(|at| marks(&at.line, &at.file)));
    elsewhere.map(|line| line.shared.conflicts).sum()
}

/// Token groups and slices of a launch: a warp has one window of 32 columns, where that makes at most 128 blocks.
fn cut(tokens: usize, rows: usize) -> (usize, usize) {
    let slices = (rows / SPLIT).div_ceil(256);
    let of = |size: usize| tokens.div_ceil(size);
    let groups = [1, 2, 4, 8].map(of).into_iter().find(|groups| groups * slices <= 128);
    groups.map_or_else(|| (of(8), (rows / SPLIT).div_ceil(512)), |groups| (groups, slices))
}

fn count(device: &Device, vm: &Vm, tokens: usize, rows: usize, rank: usize) -> f64 {
    let case = Case::new(tokens, rows, rank);
    let [out, within] = [false, true].map(|in_place| vec![case.launched(device, vm, in_place)]);
    assert_eq!(out[0].kernel, "lowrank_decode");
    let (groups, slices) = cut(tokens, rows);
    let blocks = (groups * slices) as f64;
    let whole = (tokens * rows * 2) as f64;
    // Every block of a token group gathers its chosen columns, a sector each.
    let gathered = (slices * tokens * COMPONENTS * rank * 32) as f64 / whole;
    let of_b = (rows / SPLIT * rank / SPLIT * 4) as f64;
    // What the last block of a token group does for the chosen columns: their sectors, and their rows of B.
    let chosen_b = (COMPONENTS * rank * rank / SPLIT * 4) as f64 / of_b;
    let [read, written] = [moved(&out, "y0") / whole, moved(&out, "y") / whole];
    let b = moved(&out, "b") / (groups as f64 * of_b);
    let both = moved(&within, "y") / whole;
    // In sectors: Y0 and Y, then of each chosen column of a token: every slice gathers it, its vector is stored around it in at
    // most 4 parts, words and one element, instead of with its neighbour, and the last block reads and writes it.
    let most = 2.0 + ((slices + 4 + 2) * tokens * COMPONENTS * rank * 32) as f64 / whole;
    let b_within = moved(&within, "b") / (groups as f64 * of_b);
    let instructions = |launches: &[Launched]| launches[0].counters.warp_instructions() as f64;
    let each = instructions(&out) / blocks;
    // As if all that is more in place were the last blocks' alone.
    let longest = each + (instructions(&within) - instructions(&out)) / groups as f64;
    println!(
        " bf16 t {tokens:>2} m {rows:>5} r {rank}  {groups:>2} token groups x {slices:>2} slices  Y0 {read:.3} (gathered \
         {gathered:.3})  Y {written:.4}  B {b:.4} a group  in place: Y0 and Y {both:.3} of at most {most:.3}, B {b_within:.4}  warp \
         instructions a block {each:.0}, the longest in place {longest:.0}  conflicts {}, {}",
        conflicts(&out),
        conflicts(&within),
    );
    assert!(read >= 1.0 && read <= 1.02 + gathered, "Y0 {read}");
    assert!((1.0..=1.02).contains(&written), "Y {written}");
    assert!((0.999..=1.0).contains(&b), "B {b}");
    assert!(b_within <= 1.0 + 1.01 * chosen_b, "B in place {b_within}");
    assert!(both >= 2.0 && both <= most, "Y0 and Y in place {both}, gate {most}");
    assert_eq!(conflicts(&out), 0, "bank conflicts");
    // The compiler reads the vector of a chosen column as four words, each of which meets another lane's bank once at most.
    let of_chosen = (4 * tokens * COMPONENTS * rank) as u64;
    assert!(conflicts_but_marking(&within) <= of_chosen, "bank conflicts in place, gate {of_chosen}");
    longest
}

#[test]
fn a_few_tokens_read_and_write_y_once() {
    for (device, vm) in machines() {
        for (rows, rank) in [(4096, 16), (4096, 32), (14336, 16), (14336, 32)] {
            let longest = [1, 16, 64].map(|tokens| count(&device, &vm, tokens, rows, rank));
            // The kernel for many tokens: blocks of 16.
            let many = Case::new(80, rows, rank).launched(&device, &vm, true);
            assert_eq!(many.kernel, "lowrank_forward");
            let block = many.counters.warp_instructions() as f64 / 5.0;
            println!(
                "      a block of 16 tokens and all columns: {block:.0}, {:.1} times the longest",
                block / longest[1]
            );
            assert!(longest[1] < block, "{} of {block} instructions", longest[1]);
        }
    }
}
