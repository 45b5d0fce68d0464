//! The tiled f32 product, and column norms: long chains of fused multiply-adds, held to bits.

use crate::common::{self, numbers::Numbers};
use ptx_vm::{Arg, Launch};

/// Row-major product, each element a chain of fused multiply-adds in the order of k: what the kernel does.
fn product(a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<f32> {
    let element = |row: usize, column: usize| (0..k).fold(0.0, |sum, i| a[row * k + i].mul_add(b[i * n + column], sum));
    (0..m * n).map(|i| element(i / n, i % n)).collect()
}

pub fn check(module: &ptx_vm::Module, [m, n, k]: [usize; 3]) {
    let mut numbers = Numbers::new((m * n + k) as u64);
    let (a, b) = (numbers.units(m * k), numbers.units(k * n));
    let grid = [n.div_ceil(32) as u32, m.div_ceil(32) as u32, 1];
    let launch = Launch { grid, block: [32, 8, 1], step_limit: 1 << 24, ..Launch::default() };
    let found = common::run(&module.kernel("gemm").unwrap(), &launch, |memory| {
        let (a, b) = (memory.upload(&a).unwrap(), memory.upload(&b).unwrap());
        let c = memory.allocate(m * n).unwrap();
        let sizes = [m, n, k].map(|size| Arg::value(size as i32));
        ([a.into(), b.into(), c.into()].into_iter().chain(sizes).collect(), c)
    });
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert!(bits(&found) == bits(&product(&a, &b, [m, n, k])), "{m}×{n}×{k}");
}

#[test]
fn tiled_product_of_any_shape() {
    let Some(module) = common::load("kernels/gemm.cu") else { return };
    for shape in [[1, 1, 1], [33, 31, 65], [64, 32, 32], [5, 70, 3], [40, 1, 33], [32, 96, 100]] {
        check(&module, shape);
    }
}

#[test]
fn column_norms() {
    let Some(module) = common::load("kernels/norms.cu") else { return };
    for (rows, columns) in [(1, 1), (7, 33), (100, 64), (41, 31)] {
        let a = Numbers::new(rows as u64).units(rows * columns);
        let launch = Launch {
            grid: [columns.div_ceil(32) as u32, 1, 1],
            block: [32, 8, 1],
            step_limit: 1 << 24,
            ..Launch::default()
        };
        let found = common::run(&module.kernel("column_norms").unwrap(), &launch, |memory| {
            let norms = memory.allocate::<f32>(columns).unwrap();
            let sizes = [rows, columns].map(|size| Arg::value(size as i32));
            let a = memory.upload(&a).unwrap();
            (vec![a.into(), sizes[0].clone(), sizes[1].clone(), norms.into()], norms)
        });
        for (column, norm) in found.iter().enumerate() {
            let element = |row: usize| a[row * columns + column];
            let chain =
                |first: usize| (first..rows).step_by(8).fold(0.0, |sum, row| element(row).mul_add(element(row), sum));
            let expected: f32 = (0..8).map(chain).reduce(|sum, chain: f32| sum + chain).unwrap().sqrt();
            assert_eq!(norm.to_bits(), expected.to_bits(), "{rows}×{columns}, column {column}");
        }
    }
}
