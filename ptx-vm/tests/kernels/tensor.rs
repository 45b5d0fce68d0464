//! Tensor-core products. A GPU's order of summation is not documented, so there are two statements: sums of small
//! integers are exact in every order, and pin down where each element goes; others stay within a bound that holds for
//! any order.

use crate::common::{self, numbers::Numbers, numbers::assert_close, numbers::gamma};
use half::{bf16, f16};
use ptx_vm::{Accumulation, Arg, Launch};

/// A kernel of `tensor.cu`.
struct Variant {
    name: &'static str,
    /// f16 or bf16 operands.
    encode: fn(f32) -> u16,
    decode: fn(u16) -> f64,
    /// B as n×k.
    transposed: bool,
    /// Elements of k per instruction, if its sums are f16.
    half_sums: Option<usize>,
}

const fn f16s(name: &'static str, transposed: bool, half_sums: Option<usize>) -> Variant {
    let encode = |x| f16::from_f32(x).to_bits();
    Variant { name, encode, decode: |bits| f16::from_bits(bits).to_f64(), transposed, half_sums }
}

const fn bf16s(name: &'static str, transposed: bool) -> Variant {
    let encode = |x| bf16::from_f32(x).to_bits();
    Variant { name, encode, decode: |bits| bf16::from_bits(bits).to_f64(), transposed, half_sums: None }
}

const VARIANTS: [Variant; 10] = [
    f16s("f16_k16", false, None),
    f16s("f16_k16_transposed", true, None),
    f16s("f16_k8", false, None),
    f16s("f16_k8_transposed", true, None),
    bf16s("bf16_k16", false),
    bf16s("bf16_k16_transposed", true),
    bf16s("bf16_k8", false),
    bf16s("bf16_k8_transposed", true),
    f16s("f16_sum_k16", false, Some(16)),
    f16s("f16_sum_k8_transposed", true, Some(8)),
];

/// Ragged in every direction; one to five tiles along k, so that the ring is shorter and longer than its three stages.
const SHAPES: [[usize; 3]; 4] = [[1, 8, 8], [64, 64, 32], [37, 72, 136], [70, 24, 64]];

struct Problem<'a> {
    variant: &'a Variant,
    shape: [usize; 3],
    a: Vec<u16>,
    b: Vec<u16>,
}

impl<'a> Problem<'a> {
    fn new(variant: &'a Variant, shape: [usize; 3], mut number: impl FnMut() -> f32) -> Self {
        let [m, n, k] = shape;
        let mut draw = |len: usize| (0..len).map(|_| (variant.encode)(number())).collect();
        Problem { variant, shape, a: draw(m * k), b: draw(k * n) }
    }

    /// Terms of element `i` of the product; products of two halves are exact.
    fn terms(&self, i: usize) -> impl Iterator<Item = f64> + '_ {
        let [_, n, k] = self.shape;
        let (row, column) = (i / n, i % n);
        let b = move |along: usize| if self.variant.transposed { column * k + along } else { along * n + column };
        let value = self.variant.decode;
        (0..k).map(move |along| value(self.a[row * k + along]) * value(self.b[b(along)]))
    }

    fn run(&self, module: &ptx_vm::Module, accumulation: Accumulation) -> Vec<f32> {
        let [m, n, k] = self.shape;
        let launch = Launch {
            grid: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1],
            block: [128, 1, 1],
            dynamic_shared: 3 * 2 * 2 * 64 * 32,
            accumulation,
            step_limit: 1 << 24,
            ..Launch::default()
        };
        common::run_resident(&module.kernel(self.variant.name).unwrap(), &launch, &[2], |memory| {
            let (a, b) = (memory.upload(&self.a).unwrap(), memory.upload(&self.b).unwrap());
            let c = memory.allocate(m * n).unwrap();
            let sizes = [m, n, k].map(|size| Arg::value(size as i32));
            ([a.into(), b.into(), c.into()].into_iter().chain(sizes).collect(), c)
        })
    }
}

#[test]
fn integers_are_exact() {
    let Some(module) = common::load("kernels/tensor.cu") else { return };
    for variant in &VARIANTS {
        for shape in SHAPES {
            let mut numbers = Numbers::new(shape[2] as u64);
            // Below 2048, where f16 counts exactly.
            let problem = Problem::new(variant, shape, || numbers.below(7) as f32 - 3.0);
            let found = problem.run(&module, Accumulation::Exact);
            let expected: Vec<f32> = (0..found.len()).map(|i| problem.terms(i).sum::<f64>() as f32).collect();
            let first = (0..found.len()).find(|i| found[*i] != expected[*i]);
            let describe = |i: usize| format!("element {i}: {} instead of {}", found[i], expected[i]);
            assert_eq!(first.map(describe), None, "{} {shape:?}", variant.name);
        }
    }
}

#[test]
fn any_order_of_summation_keeps_the_bound() {
    let Some(module) = common::load("kernels/tensor.cu") else { return };
    let shape = [37, 72, 136];
    for variant in &VARIANTS {
        let mut numbers = Numbers::new(9);
        let problem = Problem::new(variant, shape, || numbers.unit());
        for accumulation in [Accumulation::Exact, Accumulation::Sequential] {
            let found = problem.run(&module, accumulation);
            let exact = |i: usize| problem.terms(i).sum::<f64>();
            let bound = |i: usize| {
                let sum: f64 = problem.terms(i).map(f64::abs).sum();
                // k additions, each off by one unit in the last place at most: half of it where sums are rounded, all
                // of it where hardware cuts them off.
                let sums = gamma(2 * shape[2]) * sum;
                // An f16 sum is rounded or cut off again at each instruction; below 2^-14 the unit is 2^-24.
                let instructions = variant.half_sums.map_or(0, |depth| shape[2].div_ceil(depth)) as f64;
                sums + instructions * (sum * (1.0 + gamma(2 * shape[2])) * 2f64.powi(-10) + 2f64.powi(-24))
            };
            assert_close(&format!("{} {accumulation:?}", variant.name), &found, exact, bound);
        }
    }
}
