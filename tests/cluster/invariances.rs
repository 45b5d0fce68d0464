//! What must not matter: scale, axis, threads; and every kind of matrix.

use super::*;
use crate::common::matrices::{with_spectrum, zoo};
use idlora::cluster::Info;

/// All of the zoo, in every space that takes it, with a minimum size.
fn zoo_is_clustered<T: Elem>(devices: &[Device], rows: usize, cols: usize, k: usize, min_size: usize) {
    for (name, matrix) in zoo(11, rows, cols) {
        let (rows, cols) = matrix.shape(); // Kahan's is square
        let w = Padded::<T>::new(&matrix, 2);
        let zero = w.to_f64();
        let zero_row = (0..rows).find(|&i| zero.row(i).iter().all(|&x| x == 0.0));
        for device in devices {
            for space in [Space::Full, Space::Direction, Space::Norm] {
                let plan = Plan::new(device, desc((rows, cols), k, min_size, space)).unwrap();
                match plan.run(w.view(), &Options::default()) {
                    Ok(got) => {
                        let points = match space {
                            Space::Norm => {
                                Mat::from_vec((0..rows).map(|i| norm(zero.row(i))).collect(), rows, 1).unwrap()
                            }
                            _ => points_of(&zero, space),
                        };
                        check_partition(name, &points, &got, min_size);
                        check_means(name, &points, &got, space);
                    }
                    Err(error) => {
                        assert_eq!((space, zero_row.is_some()), (Space::Direction, true), "{name}: {error}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_zoo_is_clustered() {
    for (rows, cols, k, min_size) in
        [(40, 40, 4, 5), (65, 17, 5, 13), (17, 65, 1, 1), (9, 9, 9, 1), (1, 7, 1, 1), (7, 1, 3, 2)]
    {
        for_every_element!(zoo_is_clustered(&devices(), rows, cols, k, min_size));
    }
    for (rows, cols, k, min_size) in [(24, 17, 3, 5), (18, 18, 3, 1), (1, 7, 1, 1)] {
        for_every_element!(zoo_is_clustered(kernels(), rows, cols, k, min_size));
    }
}

/// Scaling by a power of two changes nothing but the scale, at any magnitude that the elements have.
fn powers_of_two_scale(device: &Device, cols: usize, exponents: &[i32]) {
    let base = Padded::<f32>::new(&blobs(&mut Draw::new(3), 120, cols, 4, 0.5), 0);
    for space in [Space::Full, Space::Direction, Space::Norm] {
        for min_size in [1, 25] {
            let desc = desc((120, cols), 4, min_size, space);
            let plain = cluster(device, base.view(), desc, &Options::default());
            for &exponent in exponents {
                let scale = 2f64.powi(exponent);
                let mut scaled = base.to_f64();
                scaled.data_mut().iter_mut().for_each(|x| *x *= scale);
                let scaled = Padded::<f32>::new(&scaled, 1);
                let got = cluster(device, scaled.view(), desc, &Options::default());
                assert_eq!(got.labels, plain.labels, "2^{exponent}, {space:?}");
                assert_eq!(got.info.iterations, plain.info.iterations);
                let unit = if space == Space::Direction { 1.0 } else { scale };
                for (a, b) in got.centroids.data().iter().zip(plain.centroids.data()) {
                    let close = (f64::from(*a) - f64::from(*b) * unit).abs() <= 4.0 * U * (f64::from(*b) * unit).abs();
                    assert!(
                        close || space == Space::Direction && (a - b).abs() < 1e-6,
                        "2^{exponent}, {space:?}: {a:e} {b:e}"
                    );
                }
                let ratio = got.info.inertia / (plain.info.inertia * unit * unit);
                assert!((ratio - 1.0).abs() < 1e-12, "2^{exponent}, {space:?}: inertia off by {ratio}");
            }
        }
    }
}

/// Rows that kernels read in place, and rows that they pad.
#[test]
fn powers_of_two_scale_through() {
    for cols in [32, 33] {
        powers_of_two_scale(&Device::Cpu, cols, &[-110, -100, -50, -41, 1, 39, 41, 100, 120]);
        for device in kernels() {
            powers_of_two_scale(device, cols, &[-110, 41, 120]);
        }
    }
}

#[test]
fn directions_do_not_see_the_length_of_rows() {
    let draw = &mut Draw::new(4);
    let base = blobs(draw, 200, 24, 5, 0.0);
    let mut stretched = base.clone();
    for i in 0..200 {
        let by = 2f64.powi(draw.below(160) as i32 - 80);
        stretched.row_mut(i).iter_mut().for_each(|x| *x *= by);
    }
    let desc = desc((200, 24), 5, 10, Space::Direction);
    let (base, stretched) = (Padded::<f32>::new(&base, 0), Padded::<f32>::new(&stretched, 3));
    for device in all_devices() {
        let plain = cluster(&device, base.view(), desc, &Options::default());
        let got = cluster(&device, stretched.view(), desc, &Options::default());
        assert_eq!(got.labels, plain.labels);
        assert!((got.info.inertia - plain.info.inertia).abs() < 1e-5 * plain.info.inertia);
    }
}

fn columns_are_rows_of_the_transpose<T: Elem>() {
    for (rows, cols) in [(1, 9), (33, 65), (70, 31)] {
        let w = blobs(&mut Draw::new(8), rows, cols, 3, 0.2);
        let mut transposed = Mat::zeros(cols, rows).unwrap();
        for i in 0..rows {
            (0..cols).for_each(|j| transposed.row_mut(j)[i] = w.row(i)[j]);
        }
        let (w, transposed) = (Padded::<T>::new(&w, 3), Padded::<T>::new(&transposed, 1));
        for device in all_devices() {
            for space in [Space::Full, Space::Direction, Space::Norm] {
                let columns = Desc { axis: Axis::Cols, ..desc((rows, cols), 3, 2, space) };
                let mut a = cluster(&device, w.view(), columns, &Options::default());
                let b = cluster(&device, transposed.view(), desc((cols, rows), 3, 2, space), &Options::default());
                // Kernels measure points in an order that depends on the alignment of rows, in f64.
                if device != Device::Cpu && (a.info.inertia / b.info.inertia - 1.0).abs() < 1e-13 {
                    a.info.inertia = b.info.inertia;
                }
                assert_eq!(
                    (a.labels, a.centroids, a.info),
                    (b.labels, b.centroids, b.info),
                    "{rows}×{cols}, {space:?}"
                );
            }
        }
    }
}

#[test]
fn columns() {
    for_every_element!(columns_are_rows_of_the_transpose());
}

fn threads_do_not_matter<T: Elem>() {
    let w = Padded::<T>::new(&blobs(&mut Draw::new(9), 700, 1100, 5, 0.0), 0);
    for device in devices() {
        for (space, min_size) in [(Space::Full, 1), (Space::Full, 130), (Space::Direction, 1), (Space::Norm, 100)] {
            let run = |threads: usize, seed: u64| {
                let options = Options { max_iterations: 6, seed, ..Options::default() };
                on_threads(threads, || cluster(&device, w.view(), desc((700, 1100), 5, min_size, space), &options))
            };
            let (one, two, again) = (run(1, 1), run(2, 1), run(2, 1));
            assert_eq!((&one.labels, &one.centroids, one.info), (&two.labels, &two.centroids, two.info));
            assert_eq!((&two.labels, &two.centroids, two.info), (&again.labels, &again.centroids, again.info));
            if space != Space::Norm {
                assert_ne!(one.centroids, run(1, 2).centroids, "the seed changes the start");
            }
        }
    }
}

#[test]
fn same_bits_for_one_and_two_threads() {
    for_every_element!(threads_do_not_matter());
}

/// Every order in which lanes, warps and blocks may run, with every check there is, races between blocks included: fused steps, labels
/// and sums apart, a minimum size that binds, restarts.
#[cfg(feature = "vm")]
#[test]
fn the_same_bits_for_every_schedule() {
    use idlora::vm::{Settings, Vm};
    if kernels().is_empty() {
        return;
    }
    fn same<T: Elem>(w: &Mat<f64>, k: usize, min_size: usize, space: Space, start: Option<MatRef<'_, f32>>) {
        let w = Padded::<T>::new(w, 1);
        let desc = desc(w.view().shape(), k, min_size, space);
        let run = |seed, resident| {
            let vm = Vm::new(Settings { checks: ptx_vm::Checks::GLOBAL_RACES, seed, resident });
            let got =
                cluster(&Device::Vm(vm), w.view(), desc, &Options { max_iterations: 4, start, ..Options::default() });
            (got.labels, got.centroids, got.info)
        };
        let expected = run(None, 4);
        for (seed, resident) in [(1, 1), (2, 3), (3, 7)] {
            assert_eq!(run(Some(seed), resident), expected, "k = {k}, seed {seed}");
        }
    }
    let draw = &mut Draw::new(3);
    same::<f32>(&blobs(draw, 70, 150, 4, 0.5), 3, 1, Space::Full, None);
    same::<idlora::bf16>(&blobs(draw, 50, 300, 4, 0.5), 5, 9, Space::Direction, None);
    same::<idlora::f16>(&blobs(draw, 36, 1510, 2, 0.0), 19, 1, Space::Full, None);
    let far = Mat::from_vec([vec![0.0; 40], vec![1e3; 40]].concat(), 2, 40).unwrap();
    let far = Padded::<f32>::new(&far, 0);
    same::<f32>(&blobs(draw, 40, 40, 2, 0.0), 2, 1, Space::Full, Some(far.view()));
}

/// Where no rounding decides, devices agree on every label, from k-means++ to the end.
#[test]
fn kernels_find_the_partition_of_the_cpu() {
    let draw = &mut Draw::new(21);
    let spectrum: Vec<f64> = (0..40).map(|i| 1.0 / (1.0 + f64::from(i)).sqrt()).collect();
    let w = Padded::<f32>::new(&with_spectrum(draw, 256, 384, &spectrum), 0);
    for device in kernels() {
        for (space, min_size) in [(Space::Full, 1), (Space::Full, 60), (Space::Direction, 1)] {
            let desc = desc((256, 384), 4, min_size, space);
            let run = |device| cluster(device, w.view(), desc, &Options::default());
            let (got, expected) = (run(device), run(&Device::Cpu));
            assert_eq!(got.labels, expected.labels, "{space:?}, {min_size}");
            assert_eq!(Info { inertia: 0.0, ..got.info }, Info { inertia: 0.0, ..expected.info });
        }
    }
}
