//! What must not matter: scale, axis, threads; and every kind of matrix.

use super::*;
use crate::common::matrices::zoo;

/// All of the zoo, in every space that takes it, with a minimum size.
fn zoo_is_clustered<T: Elem>(rows: usize, cols: usize, k: usize, min_size: usize) {
    for (name, matrix) in zoo(11, rows, cols) {
        let (rows, cols) = matrix.shape(); // Kahan's is square
        let w = Padded::<T>::new(&matrix, 2);
        let zero = w.to_f64();
        let zero_row = (0..rows).find(|&i| zero.row(i).iter().all(|&x| x == 0.0));
        for device in devices() {
            for space in [Space::Full, Space::Direction, Space::Norm] {
                let plan = Plan::new(&device, desc((rows, cols), k, min_size, space)).unwrap();
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
        for_every_element!(zoo_is_clustered(rows, cols, k, min_size));
    }
}

/// Scaling by a power of two changes nothing but the scale, at any magnitude that the elements have.
fn powers_of_two_scale(cols: usize) {
    let base = Padded::<f32>::new(&blobs(&mut Draw::new(3), 120, cols, 4, 0.5), 0);
    for space in [Space::Full, Space::Direction, Space::Norm] {
        for min_size in [1, 25] {
            let desc = desc((120, cols), 4, min_size, space);
            let plain = cluster(&Device::Cpu, base.view(), desc, &Options::default());
            for exponent in [-110, -100, -50, -41, 1, 39, 41, 100, 120] {
                let scale = 2f64.powi(exponent);
                let mut scaled = base.to_f64();
                scaled.data_mut().iter_mut().for_each(|x| *x *= scale);
                let scaled = Padded::<f32>::new(&scaled, 1);
                let got = cluster(&Device::Cpu, scaled.view(), desc, &Options::default());
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
    powers_of_two_scale(32);
    powers_of_two_scale(33);
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
    let plain = cluster(&Device::Cpu, base.view(), desc, &Options::default());
    let got = cluster(&Device::Cpu, stretched.view(), desc, &Options::default());
    assert_eq!(got.labels, plain.labels);
    assert!((got.info.inertia - plain.info.inertia).abs() < 1e-5 * plain.info.inertia);
}

fn columns_are_rows_of_the_transpose<T: Elem>() {
    for (rows, cols) in [(1, 9), (33, 65), (70, 31)] {
        let w = blobs(&mut Draw::new(8), rows, cols, 3, 0.2);
        let mut transposed = Mat::zeros(cols, rows).unwrap();
        for i in 0..rows {
            (0..cols).for_each(|j| transposed.row_mut(j)[i] = w.row(i)[j]);
        }
        let (w, transposed) = (Padded::<T>::new(&w, 3), Padded::<T>::new(&transposed, 1));
        for device in devices() {
            for space in [Space::Full, Space::Direction, Space::Norm] {
                let columns = Desc { axis: Axis::Cols, ..desc((rows, cols), 3, 2, space) };
                let a = cluster(&device, w.view(), columns, &Options::default());
                let b = cluster(&device, transposed.view(), desc((cols, rows), 3, 2, space), &Options::default());
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
