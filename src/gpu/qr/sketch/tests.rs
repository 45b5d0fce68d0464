//! The sketch itself, against the definition in `f64`.

use super::*;
use crate::gpu::vm::{Settings, Vm, machine};
use crate::mat::{Mat, MatRef};
use crate::qr::{Groups, Stop, Tier};
use half::{bf16, f16};

const U: f64 = f64::EPSILON / 2.0;

fn machines() -> Vec<Vm> {
    let settings = |seed, resident| Settings { seed, resident, ..Settings::default() };
    let all = [settings(None, 4), settings(Some(1), 1), settings(Some(2), 7)];
    all.into_iter().filter_map(machine).collect()
}

/// `count` rows, the groups' ends at `indptr`, in reverse order in a matrix with rows `pad` elements of NaN apart.
fn matches_the_definition<T: Elem>(
    machines: &[Vm],
    indptr: &[usize],
    (cols, pad): (usize, usize),
    (rank, oversampling): (usize, usize),
) {
    let count = indptr[indptr.len() - 1];
    let mut draw = Stream::new(count as u64, Use::Gate);
    let row = |draw: &mut Stream| {
        let own: Vec<T> = (0..cols).map(|_| T::from_f32(draw.normal() as f32)).collect();
        own.into_iter().chain(vec![T::from_f32(f32::NAN); pad]).collect::<Vec<T>>()
    };
    let data: Vec<T> = (0..count).flat_map(|_| row(&mut draw)).collect();
    let w = MatRef::with_ld(&data, count, cols, cols + pad).unwrap();
    let groups = Groups::new(indptr.to_vec(), (0..count as u32).rev().collect()).unwrap();
    let desc = Desc { cols, rank, tier: Tier::Sketch { oversampling }, seed: 9 };
    let mut bits: Option<Vec<u32>> = None;
    for vm in machines {
        let problem = Problem::upload(vm, &desc, &[(w, &groups)], &Stop::default()).unwrap();
        let sketch = sketched::<_, T>(vm, desc.seed, oversampling, &problem).unwrap();
        let mut y = vec![0.0f32; count * sketch.ld];
        vm.download(OP, &sketch.y, &mut y).unwrap();
        let found: Vec<u32> = y.iter().map(|x| x.to_bits()).collect();
        assert!(*bits.get_or_insert_with(|| found.clone()) == found, "the same bits for every schedule");

        for (g, limits) in problem.limits.iter().enumerate() {
            let width = (rank.min(groups.group(g).len()).min(cols) + oversampling).min(cols);
            let mut stream = Stream::new(desc.seed, Use::Sketch);
            let omega = Mat::from_vec((0..cols * width).map(|_| stream.normal()).collect(), cols, width).unwrap();
            let scale = inverse_power(limits.largest);
            let order = limits.largest * scale;
            assert!(width <= sketch.columns && (groups.group(g).is_empty() || (1.0..2.0).contains(&order)));
            for (i, &row) in groups.group(g).iter().enumerate() {
                let y = &y[(indptr[g] + i) * sketch.ld..][..sketch.ld];
                assert!(y[width..].iter().all(|&x| x == 0.0), "columns that the group does not want");
                for (l, &y) in y[..width].iter().enumerate() {
                    let terms = (0..cols).map(|k| f64::from(w.row(row as usize)[k].to_f32()) * omega.row(k)[l] * scale);
                    let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    // n roundings there and here, then one to float.
                    let bound = 2.0 * (cols + 1) as f64 * U * size + f64::from(f32::EPSILON) / 2.0 * exact.abs();
                    let off = (f64::from(y) - exact).abs();
                    assert!(
                        off <= bound,
                        "{:?} [{count}, {cols}] {rank}+{oversampling}: {off:e} off at ({i}, {l})",
                        T::DTYPE
                    );
                }
            }
        }
    }
}

fn around_tile_edges<T: Elem>() {
    let machines = machines();
    for rows in [1, 31, 32, 33, 63, 64, 65, 130] {
        matches_the_definition::<T>(&machines, &[0, rows], (37, 1), (5, 3));
        matches_the_definition::<T>(&machines, &[0, rows], (67, 3), (2, 63));
    }
    for cols in [1, 2, 7, 31, 32, 33, 63, 64, 65, 128, 129] {
        for oversampling in [0, 5, 6, 61, 62] {
            matches_the_definition::<T>(&machines, &[0, 3], (cols, cols % 3), (3, oversampling));
        }
    }
    // Wider than a block, and groups of several widths, one of them empty.
    matches_the_definition::<T>(&machines, &[0, 33], (290, 0), (3, 256));
    matches_the_definition::<T>(&machines, &[0, 3, 3, 70, 71, 76], (50, 5), (6, 4));
}

#[test]
fn the_sketch_is_the_product_with_the_normals() {
    around_tile_edges::<f32>();
    around_tile_edges::<f16>();
    around_tile_edges::<bf16>();
}

#[test]
fn powers_bring_norms_to_order_one() {
    for (x, inverse) in
        [(1.0, 1.0), (1.99, 1.0), (2.0, 0.5), (3e38, 2f64.powi(-127)), (1e-45, 2f64.powi(150)), (0.0, 1.0)]
    {
        assert_eq!(inverse_power(x), inverse, "{x:e}");
    }
}
