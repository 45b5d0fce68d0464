//! What initialising makes: the operations by hand with the module's seed, the starting values, the report.

use crate::common::matrices::{Draw, zoo};
use crate::common::{Padded, devices};
use crate::{GATES, bits, on_threads, random};
use idlora::adapter::{BInit, Config, Digest, IdLora, Report};
use idlora::cluster::{self, Axis, Space};
use idlora::lowrank::Gate;
use idlora::select::{self, Selection};
use idlora::{Device, Elem, Error, Mat, bf16, f16, interp};

const SELECTIONS: [Selection; 5] =
    [Selection::Centroid, Selection::PivotedQr, Selection::Sketch, Selection::Norm, Selection::Random];
const SPACES: [Space; 3] = [Space::Full, Space::Direction, Space::Norm];

fn assert_same_bits(a: &IdLora, b: &IdLora, what: &str) {
    assert_eq!(a.skeleton(), b.skeleton(), "{what}");
    assert_eq!(bits(a.b().data()), bits(b.b().data()), "{what}");
    assert_eq!(bits(a.gate().data()), bits(b.gate().data()), "{what}");
    assert_eq!(a.digest(), b.digest(), "{what}");
}

/// `init` is nothing but the public operations with `module_seed`: whoever runs them by hand gets the same rows and errors.
fn init_is_the_operations_by_hand<T: Elem>() {
    for device in devices() {
        let w = random::<T>(11, 60, 17, 3);
        for cluster_by in SPACES {
            for select in SELECTIONS {
                let config = Config {
                    rank: 4,
                    clusters: 3,
                    min_size: Some(19),
                    cluster_by,
                    select,
                    seed: 5,
                    ..Config::default()
                };
                let (adapter, report) = IdLora::init(&device, "m", w.view(), &config).unwrap();
                check_by_hand(&device, &w, &config, &adapter, &report);
                assert_eq!(adapter.digest(), Digest::of(w.view()));
                assert_eq!((adapter.name(), adapter.rows(), adapter.cols()), ("m", 60, 17));
                assert_eq!((adapter.dtype(), *adapter.config()), (T::DTYPE, config));
            }
        }
    }
}

fn check_by_hand<T: Elem>(device: &Device, w: &Padded<T>, config: &Config, adapter: &IdLora, report: &Report) {
    let Config { rank, clusters, cluster_by, select, .. } = *config;
    let seed = config.module_seed("m");
    let desc = cluster::Desc { rows: 60, cols: 17, axis: Axis::Rows, space: cluster_by, clusters, min_size: 19 };
    let options = cluster::Options { seed, ..Default::default() };
    let clustering = cluster::Plan::new(device, desc).unwrap().run(w.view(), &options).unwrap();
    let desc = select::Desc { selection: select, rank, seed, space: cluster_by };
    let skeleton = select::Plan::new(device, desc).unwrap().run(w.view(), &clustering).unwrap();
    let context = format!("{cluster_by:?} {select:?}");
    assert_eq!(adapter.skeleton(), skeleton.rows, "{context}");
    assert_eq!(report.rank_reached, skeleton.rank_reached, "{context}");
    assert_eq!(report.sizes, clustering.sizes, "{context}");
    assert!(report.sizes.iter().all(|&size| size >= 19) && report.sizes.iter().sum::<usize>() == 60, "{context}");
    assert_eq!(
        (report.inertia, report.iterations, report.converged),
        (clustering.info.inertia, clustering.info.iterations, clustering.info.converged),
        "{context}"
    );
    let all: Vec<u32> = (0..60).collect();
    let error = interp::relative_error(device, w.view(), &all, &skeleton.rows).unwrap();
    assert_eq!(report.relative_error, error, "{context}");
    for (i, chosen) in skeleton.rows.chunks(rank).enumerate() {
        let members: Vec<u32> = all.iter().copied().filter(|&p| clustering.labels[p as usize] == i as u32).collect();
        assert!(chosen.iter().all(|row| members.contains(row)), "{context}: rows of cluster {i} come from it");
        let error = interp::relative_error(device, w.view(), &members, chosen).unwrap();
        assert_eq!(report.cluster_errors[i], error, "{context}");
    }
    assert!(report.seconds > 0.0);
}

#[test]
fn initialising_is_the_operations_with_the_modules_seed() {
    init_is_the_operations_by_hand::<f32>();
    init_is_the_operations_by_hand::<f16>();
    init_is_the_operations_by_hand::<bf16>();
}

/// `‖W − proj‖_F / ‖W‖_F` by modified Gram–Schmidt, twice, in f64: the definition, independent of the crate.
fn projection_error(w: &Mat<f64>, rows: &[u32], chosen: &[u32]) -> f64 {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let reduce = |v: &mut Vec<f64>, basis: &[Vec<f64>]| {
        for q in basis.iter().chain(basis) {
            let c = dot(v, q);
            v.iter_mut().zip(q).for_each(|(x, y)| *x -= c * y);
        }
    };
    for &row in chosen {
        let mut v = w.row(row as usize).to_vec();
        let before = dot(&v, &v).sqrt();
        reduce(&mut v, &basis);
        let norm = dot(&v, &v).sqrt();
        if norm > 1e-12 * before {
            v.iter_mut().for_each(|x| *x /= norm);
            basis.push(v);
        }
    }
    let (mut left, mut total) = (0.0, 0.0);
    for &row in rows {
        let mut v = w.row(row as usize).to_vec();
        total += dot(&v, &v);
        reduce(&mut v, &basis);
        left += dot(&v, &v);
    }
    if total == 0.0 { 0.0 } else { (left / total).sqrt() }
}

/// Over the zoo: what is chosen is legal, and the report's errors are the definition's. The operation's accumulation is at least
/// as good as f32 over n products per entry, twice through r·k directions: `2·(n + k·r)·u` of the whole norm, at most.
#[test]
fn reports_hold_over_the_zoo() {
    let (rows, cols) = (40, 24);
    let config = Config { rank: 3, clusters: 4, split: 1, ..Config::default() };
    let bound = 2.0 * (cols + 12) as f64 * f64::from(f32::EPSILON);
    for device in devices() {
        for (name, values) in zoo(3, rows, cols) {
            if values.rows() != rows {
                continue; // Kahan's matrix is square
            }
            let w = Padded::<f32>::new(&values, 1);
            let (adapter, report) = IdLora::init(&device, name, w.view(), &config).unwrap();
            let all: Vec<u32> = (0..rows as u32).collect();
            let expected = projection_error(&w.to_f64(), &all, adapter.skeleton());
            let found = report.relative_error;
            assert!((found - expected).abs() <= bound, "{name}: {found} for {expected}");
            assert_eq!(report.rank_reached.len(), 4, "{name}");
            assert!(report.rank_reached.iter().all(|&reached| reached <= 3), "{name}");
            assert!(report.cluster_errors.iter().all(|error| (0.0..=1.0 + bound).contains(error)), "{name}");
            w.assert_guards();
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_name_others() {
    let w = random::<f32>(21, 48, 12, 0);
    for gate in GATES {
        let config = Config { rank: 4, gate, b_init: BInit::Normal, ..Config::default() };
        let init = |name: &str, seed| IdLora::init(&Device::Cpu, name, w.view(), &Config { seed, ..config }).unwrap().0;
        let first = init("model.0.query", 1);
        assert_same_bits(&first, &init("model.0.query", 1), "the same twice");
        for other in [init("model.1.query", 1), init("model.0.query", 2)] {
            assert_ne!(first.b().data(), other.b().data(), "{gate:?}");
            assert_eq!(first.gate().data() == other.gate().data(), gate == Gate::Static, "{gate:?}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for (rows, cols) in [(258, 65), (96, 300)] {
        let w = random::<bf16>(22, rows, cols, 2);
        for select in SELECTIONS {
            let config = Config { rank: 8, select, b_init: BInit::Normal, ..Config::default() };
            let init = || IdLora::init(&Device::Cpu, "m", w.view(), &config).unwrap();
            let [(one, report), (two, other)] = [1, 2].map(|threads| on_threads(threads, init));
            assert_same_bits(&one, &two, &format!("{select:?}"));
            assert_eq!(report.relative_error.to_bits(), other.relative_error.to_bits(), "{select:?}");
            assert_eq!(report.inertia.to_bits(), other.inertia.to_bits(), "{select:?}");
            assert_eq!(report.cluster_errors, other.cluster_errors, "{select:?}");
        }
    }
}

/// Sample moments lie within six standard errors (under 2e-9 by chance, and the seed is fixed) of the documented distribution.
/// Each sample is drawn from modules of many names, which so prove to be independent of each other as well.
#[test]
fn gates_and_b_start_as_documented() {
    let (rows, cols, rank, clusters) = (128usize, 75usize, 32usize, 4usize);
    let w = random::<f32>(23, rows, cols, 0);
    let starts = |gate, b_init| {
        let config = Config { rank, clusters, gate, b_init, select: Selection::Norm, ..Config::default() };
        let init = |i| IdLora::init(&Device::Cpu, &format!("layer.{i}"), w.view(), &config).unwrap().0;
        (0..50).map(init).collect::<Vec<IdLora>>()
    };
    for gate in [Gate::Inner, Gate::RmsInner] {
        let adapters = starts(gate, BInit::Zero);
        assert!(adapters.iter().all(|a| a.gate().shape() == (1, rank)));
        assert_moments(adapters.iter().flat_map(|a| a.gate().data()), 1.0 / rank as f64, 3.0);
        assert!(adapters.iter().all(|a| a.b().data().iter().all(|x| x.to_bits() == 0)), "B starts at 0");
    }
    for gate in [Gate::Linear, Gate::LinearSoftmax] {
        let adapters = starts(gate, BInit::Zero);
        let bound = 1.0 / (cols as f64).sqrt();
        let all = || adapters.iter().flat_map(|a| a.gate().data());
        assert!(adapters.iter().all(|a| a.gate().shape() == (clusters, cols)));
        assert!(all().all(|x| f64::from(x.abs()) <= bound * (1.0 + 1e-7)));
        assert_moments(all(), bound * bound / 3.0, 9.0 / 5.0);
    }
    let adapters = starts(Gate::Static, BInit::Normal);
    assert!(adapters.iter().all(|a| a.gate().data() == [0.25; 4] && a.b().shape() == (rows / 2, rank / 2)));
    assert_moments(adapters.iter().flat_map(|a| a.b().data()), 1.0 / rank as f64, 3.0);
}

/// Mean 0 and the given variance; the sample variance has standard error `σ²·√((kurtosis − 1)/n)`.
fn assert_moments<'a>(values: impl Iterator<Item = &'a f32>, variance: f64, kurtosis: f64) {
    let values: Vec<f64> = values.map(|&x| f64::from(x)).collect();
    let n = values.len() as f64;
    assert!(n >= 1000.0, "enough to tell 1/r from its neighbours");
    let mean = values.iter().sum::<f64>() / n;
    let found = values.iter().map(|x| x * x).sum::<f64>() / n;
    assert!(mean.abs() <= 6.0 * (variance / n).sqrt(), "mean {mean}");
    assert!((found / variance - 1.0).abs() <= 6.0 * ((kurtosis - 1.0) / n).sqrt(), "variance {found} for {variance}");
}

#[test]
fn degenerate_weights_are_legal_where_the_sizes_are() {
    let single = Config { rank: 1, clusters: 1, split: 1, ..Config::default() };
    for gate in GATES {
        // One row: it represents itself.
        let w = random::<f32>(24, 1, 9, 0);
        let (adapter, report) = IdLora::init(&Device::Cpu, "m", w.view(), &Config { gate, ..single }).unwrap();
        assert_eq!((adapter.skeleton(), report.sizes), (&[0][..], vec![1]));
        assert!(report.relative_error <= 1e-6, "{}", report.relative_error);
        // One column: any row that is not 0 represents all.
        let w = random::<f32>(25, 9, 1, 3);
        let config = Config { rank: 3, clusters: 2, split: 3, gate, ..Config::default() };
        let (_, report) = IdLora::init(&Device::Cpu, "m", w.view(), &config).unwrap();
        assert_eq!(report.rank_reached, [1, 1], "{gate:?}");
        assert!(report.relative_error <= 1e-6, "{}", report.relative_error);
    }
    // All zero, and all the same row: nothing to tell clusters apart by, and nothing to represent, or one row.
    let config = Config { rank: 3, clusters: 4, split: 1, ..Config::default() };
    let zero = Mat::<f32>::zeros(16, 5).unwrap();
    let (_, report) = IdLora::init(&Device::Cpu, "m", zero.as_ref(), &config).unwrap();
    assert_eq!((report.relative_error, report.rank_reached), (0.0, vec![0; 4]));
    let row = Draw::new(26).gaussian(1, 5);
    let same = Mat::from_vec(row.data().repeat(16).iter().map(|&x| x as f32).collect(), 16, 5).unwrap();
    let (_, report) = IdLora::init(&Device::Cpu, "m", same.as_ref(), &config).unwrap();
    assert_eq!(report.rank_reached, [1; 4]);
    assert!(report.relative_error <= 1e-6, "{}", report.relative_error);
}

/// All of k·r = m rows: every row is chosen, and nothing is lost.
#[test]
fn choosing_every_row_loses_nothing() {
    let w = random::<f32>(27, 12, 20, 1);
    for select in SELECTIONS {
        let config = Config { rank: 3, clusters: 4, split: 1, select, ..Config::default() };
        let (adapter, report) = IdLora::init(&Device::Cpu, "m", w.view(), &config).unwrap();
        let mut rows = adapter.skeleton().to_vec();
        rows.sort_unstable();
        assert_eq!(rows, (0..12).collect::<Vec<u32>>());
        assert!(report.relative_error <= 1e-6, "{}", report.relative_error);
    }
}

#[test]
fn a_zero_row_has_no_direction() {
    let mut values = Draw::new(28).gaussian(20, 6);
    values.row_mut(13).fill(0.0);
    let w = Padded::<f32>::new(&values, 0);
    let config = Config { rank: 2, clusters: 2, ..Config::default() };
    assert!(IdLora::init(&Device::Cpu, "m", w.view(), &config).is_ok());
    let directions = Config { cluster_by: Space::Direction, ..config };
    assert_refused!(IdLora::init(&Device::Cpu, "m", w.view(), &directions), Operand, "13", "zero");
    let none = Config { max_iterations: 0, ..config };
    assert_refused!(IdLora::init(&Device::Cpu, "m", w.view(), &none), Parameter, "`max_iterations`", "at least 1");
}
