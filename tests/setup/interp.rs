//! Interpolation coefficients, relative errors and the errors of the truncated SVD.

use crate::common::factors::{U, factor, norm};
use crate::common::matrices::{Draw, zoo};
use crate::common::{Padded, devices, kernel_devices, on_threads};
use idlora::qr::{Factor, Info, Stop, Tier};
use idlora::reference::{interp as reference, qr as reference_qr};
use idlora::{Device, Elem, Mat, MatRef, bf16, f16, interp};

/// Every implementation of the coefficients.
fn solvers() -> Vec<Device> {
    devices().into_iter().chain(kernel_devices()).collect()
}

/// `T[J, :] = I` exactly, and `‖c_i − t_i C[J]‖` is the distance of row `i` from the span of the pivots.
///
/// With a residual computed through `R`, row `i` is off by the factorisation's `4(n+r+4)·u` times the lengths it
/// combines, `s_i = ‖c_i‖ + Σ_a |t_ia|‖c_{J_a}‖`, a triangular solve adding `r·u` of the same; before it hands over,
/// the Gram tier's are off by the same on the scale of squares, so `√(4(n+r+4)u)·s_i` when the true distance is 0,
/// and not more when it is not.
fn assert_interpolates(what: &str, c: &Mat<f64>, f: &Factor, t: &Mat<f64>, tier: Tier) {
    let chosen: Vec<usize> = f.jpvt.iter().map(|&p| p as usize).collect();
    let rest = reference_qr::residual(c.as_ref(), &chosen);
    for i in 0..c.rows() {
        let mut left = c.row(i).to_vec();
        let mut scale = norm(c.row(i));
        for (&p, &t) in chosen.iter().zip(t.row(i)) {
            left.iter_mut().zip(c.row(p)).for_each(|(x, y)| *x -= t * y);
            scale += t.abs() * norm(c.row(p));
        }
        let relative = 4.0 * (c.cols() + 2 * chosen.len() + 4) as f64 * U;
        let gram = tier == Tier::Gram && f.info.handover.is_none();
        let bound = scale * if gram { relative.sqrt() } else { (chosen.len() + 1) as f64 * relative };
        let (found, exact) = (norm(&left), norm(rest.row(i)));
        assert!((found - exact).abs() <= bound, "{what}: row {i} is {found:e} off, the span {exact:e}");
    }
}

/// `R₁₁ Tᵀ = R`, and the definition's T.
///
/// Substitution in any order solves `(R₁₁ + Δ) t = r` with `|Δ| ≤ (j + 1)·u·|R₁₁|` (Higham, theorem 8.5), so
/// `|R₁₁t − r| ≤ (j + 1)·u·|R₁₁||t|`, and as much and one more for evaluating that here, in which `|r|` is `|R₁₁||t|` at most.
/// Two such solutions differ by `|R₁₁⁻¹|` times both their `(j + 1)·u·|R₁₁||t|`, and `|R₁₁⁻¹|` is at most the inverse of the
/// comparison matrix, whose substitution adds positive terms: rounded by less than a factor of 2.
fn assert_equals_the_definition(what: &str, f: &Factor, t: &Mat<f64>) {
    let (j, c) = f.r.shape();
    assert_eq!(t.shape(), (c, j), "{what}");
    let chosen: Vec<usize> = f.jpvt.iter().map(|&p| p as usize).collect();
    let (jpvt, r, q) = (chosen.clone(), f.r.clone(), Mat::zeros(0, 0).unwrap());
    let expected = reference::coeffs(&reference_qr::Factor { jpvt, q, r, residuals: Vec::new(), remaining: 0.0 });
    let r11 = |a: usize, b: usize| f.r.row(a)[chosen[b]];
    let roundings = (j + 1) as f64 * U;
    for i in 0..c {
        if let Some(a) = chosen.iter().position(|&p| p == i) {
            let unit = |b: usize| if a == b { 1.0 } else { 0.0 };
            assert!(t.row(i).iter().enumerate().all(|(b, &x)| x == unit(b)), "{what}: row {i} is pivot {a}");
            continue;
        }
        let mut apart = vec![0.0; j];
        for a in (0..j).rev() {
            let (mut product, mut size, mut both, mut carried) = (0.0, 0.0, 0.0, 0.0);
            for (b, &further) in apart.iter().enumerate().skip(a) {
                product += r11(a, b) * t.row(i)[b];
                size += (r11(a, b) * t.row(i)[b]).abs();
                both += r11(a, b).abs() * (t.row(i)[b].abs() + expected.row(i)[b].abs());
                carried += r11(a, b).abs() * further; // of b = a, nothing yet
            }
            let off = (product - f.r.row(a)[i]).abs();
            assert!(off <= 3.0 * (roundings + U) * size, "{what}: R₁₁T off by {off:e} at ({a}, {i}) of {size:e}");
            apart[a] = (2.0 * roundings * both + carried) / r11(a, a).abs();
            let off = (t.row(i)[a] - expected.row(i)[a]).abs();
            assert!(off <= apart[a], "{what}: T off by {off:e} at ({i}, {a}), bound {:e}", apart[a]);
        }
    }
}

/// Factors of every kind of matrix, with what is expected of their coefficients.
fn interpolates<T: Elem>() {
    let (mut cases, mut factors) = (Vec::new(), Vec::new());
    for (rows, cols) in [(20, 14), (14, 33), (1, 9), (9, 1)] {
        for (name, values) in zoo(3, rows, cols) {
            let padded = Padded::<T>::new(&values, 2);
            for (tier, rank) in
                [(Tier::Gram, 5), (Tier::Exact, 5), (Tier::Sketch { oversampling: 4 }, 5), (Tier::Gram, rows)]
            {
                let what = format!("{name} {rows}×{cols} {:?} {tier:?} rank {rank}", T::DTYPE);
                factors.push(factor(&Device::Cpu, padded.view(), rank, tier, &Stop::default()));
                cases.push((what, padded.to_f64(), tier));
            }
        }
    }
    assert!(factors.iter().any(|f| f.jpvt.is_empty()) && factors.iter().any(|f| f.jpvt.len() == f.r.cols()));
    for device in solvers() {
        let coeffs = interp::coeffs_many(&device, &factors).unwrap();
        assert_eq!(coeffs.len(), factors.len());
        for (((what, c, tier), f), t) in cases.iter().zip(&factors).zip(&coeffs) {
            let what = format!("{device} {what}");
            assert_equals_the_definition(&what, f, t);
            assert_interpolates(&what, c, f, t, *tier);
        }
    }
}

#[test]
fn coefficients_interpolate() {
    interpolates::<f32>();
    interpolates::<f16>();
    interpolates::<bf16>();
}

/// A random R of `j` pivots among `c` rows; NaN below the diagonal, where nobody looks.
fn drawn(draw: &mut Draw, j: usize, c: usize) -> Factor {
    let mut order: Vec<u32> = (0..c as u32).collect();
    (0..j).for_each(|b| order.swap(b, b + draw.below(c - b)));
    let mut r = draw.gaussian(j, c);
    for (b, &p) in order[..j].iter().enumerate() {
        (b + 1..j).for_each(|a| r.row_mut(a)[p as usize] = f64::NAN);
        r.row_mut(b)[p as usize] = 2.0 + (j as f64).sqrt();
    }
    Factor { jpvt: order[..j].to_vec(), r, info: Info::default() }
}

/// Pivots around the edges of panels and chunks, rows around those of blocks, which take fewer columns of more pivots.
fn ragged() -> Vec<Factor> {
    let draw = &mut Draw::new(5);
    let pivots = [1, 2, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 71, 72, 73, 128, 129, 200];
    let mut factors: Vec<Factor> = pivots.into_iter().map(|j| drawn(draw, j, j + 100)).collect();
    for (j, c) in [(0, 4), (1, 1), (5, 5), (130, 130), (3, 127), (3, 128), (3, 129), (4, 257), (0, 0), (6, 400)] {
        factors.push(drawn(draw, j, c));
    }
    factors
}

#[test]
fn coefficients_equal_the_definition() {
    let factors = ragged();
    for device in solvers() {
        let coeffs = interp::coeffs_many(&device, &factors).unwrap();
        for (f, t) in factors.iter().zip(&coeffs) {
            let what = format!("{device} {:?}", f.r.shape());
            assert_equals_the_definition(&what, f, t);
            assert_eq!(interp::coeffs(&device, f).unwrap().data(), t.data(), "{what}: alone and among others");
        }
        assert!(interp::coeffs_many(&device, &[]).unwrap().is_empty());
    }
    // More pivots than a warp of columns fits shared memory.
    let many = drawn(&mut Draw::new(6), 901, 905);
    for device in kernel_devices() {
        assert_equals_the_definition("901 pivots", &many, &interp::coeffs(&device, &many).unwrap());
    }
}

#[cfg(feature = "vm")]
#[test]
fn coefficients_are_the_same_bits_for_every_schedule() {
    use idlora::vm::{Settings, Vm};
    if kernel_devices().is_empty() {
        return; // said there
    }
    let factors = ragged();
    let bits = |settings: Settings| {
        let coeffs = interp::coeffs_many(&Device::Vm(Vm::new(settings)), &factors).unwrap();
        coeffs.iter().flat_map(|t| t.data().iter().map(|x| x.to_bits())).collect::<Vec<_>>()
    };
    let expected = bits(Settings::default());
    for (seed, resident) in [(1, 1), (2, 3), (3, 16)] {
        assert!(bits(Settings { seed: Some(seed), resident, ..Settings::default() }) == expected, "seed {seed}");
    }
}

/// Errors of growing skeletons equal the definition to `(n + p)·2⁻⁵³` of `‖C‖`, scaled by the rounding of two bases.
fn errors_are_the_definition<T: Elem>() {
    for (rows, cols) in [(20, 14), (14, 33), (70, 9)] {
        for (name, values) in zoo(13, rows, cols) {
            let padded = Padded::<T>::new(&values, 1);
            let c = padded.to_f64();
            let skeleton: Vec<u32> = (0..6).map(|i| (i * 2 % c.rows()) as u32).collect();
            let chosen: Vec<usize> = skeleton.iter().map(|&p| p as usize).collect();
            let every: Vec<u32> = (0..c.rows() as u32).collect();
            for device in devices() {
                let checkpoints = [6, 0, 3, 3, 1];
                let curve = interp::error_curve(&device, padded.view(), &skeleton, &checkpoints).unwrap();
                for (&p, &error) in checkpoints.iter().zip(&curve) {
                    let exact = reference::relative_error(c.as_ref(), &chosen[..p]);
                    let bound = 16.0 * (cols + p + 4) as f64 * U;
                    if name != "kahan" {
                        assert!((error - exact).abs() <= bound, "{name} {:?} {p}: {error:e}, not {exact:e}", T::DTYPE);
                    }
                    let one = interp::relative_error(&device, padded.view(), &every, &skeleton[..p]).unwrap();
                    assert!((one - error).abs() <= bound, "{name} {p}: {one:e} and {error:e}");
                }
                let some: Vec<u32> = vec![3, 1, 5];
                let part = Mat::from_vec(some.iter().flat_map(|&i| c.row(i as usize).to_vec()).collect(), 3, c.cols())
                    .unwrap();
                let own = interp::relative_error(&device, padded.view(), &some, &[5, 3]).unwrap();
                let exact = reference::relative_error(part.as_ref(), &[2, 0]);
                assert!((own - exact).abs() <= 16.0 * (cols + 6) as f64 * U, "{name}: {own:e}, not {exact:e}");
            }
        }
    }
}

#[test]
fn errors_equal_the_definition() {
    errors_are_the_definition::<f32>();
    errors_are_the_definition::<f16>();
    errors_are_the_definition::<bf16>();
}

/// The Gram matrix is off by `n·u·‖W‖²`, its eigenvalues by as much and the reduction's `s·u·‖W‖²`, summed over `s`
/// values; errors are the root of that where they vanish. No choice of rows is better.
fn svd_is_the_optimum<T: Elem>() {
    for (rows, cols) in [(20, 14), (14, 33), (1, 9), (9, 1)] {
        for (name, values) in zoo(17, rows, cols) {
            let padded = Padded::<T>::new(&values, 2);
            let c = padded.to_f64();
            let ranks = [0, 1, 4, 3, 9, 50];
            let exact = reference::svd_curve(c.as_ref(), &ranks);
            for device in devices() {
                let curve = interp::svd_curve(&device, padded.view(), &ranks).unwrap();
                let small = (c.rows() * c.rows().max(c.cols())) as f64 * 8.0 * U;
                for ((&p, &found), &exact) in ranks.iter().zip(&curve).zip(&exact) {
                    let off = (found * found - exact * exact).abs();
                    assert!(off <= small, "{name} {rows}×{cols} {:?} rank {p}: {found:e}, not {exact:e}", T::DTYPE);
                    for tier in [Tier::Gram, Tier::Sketch { oversampling: 2 }] {
                        let jpvt = factor(&device, padded.view(), p, tier, &Stop::default()).jpvt;
                        let ours = interp::error_curve(&device, padded.view(), &jpvt, &[jpvt.len()]).unwrap()[0];
                        assert!(
                            found * found <= ours * ours + small,
                            "{name} {tier:?}: {ours:e} beats the optimum {found:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn no_selection_beats_the_svd() {
    svd_is_the_optimum::<f32>();
    svd_is_the_optimum::<f16>();
    svd_is_the_optimum::<bf16>();
}

/// Known spectra: Hadamard (orthogonal) times a diagonal, whose entries are exact.
#[test]
fn svd_curves_of_known_spectra() {
    let sigma: Vec<f64> = (0..16).map(|j| 2f64.powi(-j)).collect();
    let sign = |i: usize, j: usize| if (i & j).count_ones() & 1 == 0 { 1.0 } else { -1.0 };
    let data = (0..16).flat_map(|i| (0..16).map(move |j| (i, j))).map(|(i, j)| sign(i, j) * sigma[j]).collect();
    let padded = Padded::<bf16>::new(&Mat::from_vec(data, 16, 16).unwrap(), 0);
    let tail = |p: usize| sigma[p.min(16)..].iter().map(|s| s * s).sum::<f64>();
    for device in devices() {
        let curve = interp::svd_curve(&device, padded.view(), &(0..=17).collect::<Vec<_>>()).unwrap();
        for (p, error) in curve.iter().enumerate() {
            assert!((error * error - tail(p) / tail(0)).abs() <= 16.0 * 16.0 * 8.0 * U, "rank {p}: {error:e}");
        }
    }
}

/// Beyond the size that is diagonalised whole: a decaying spectrum on a rotation that keeps it known, `(I −
/// 2vvᵀ)·diag(σ)` as columns.
#[test]
fn svd_curves_of_large_matrices_settle_on_the_spectrum() {
    let n = 2100;
    let sigma = |j: usize| 1.0 / (1.0 + j as f64).sqrt();
    let draw = &mut Draw::new(4);
    let v: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
    let square = v.iter().map(|x| x * x).sum::<f64>();
    let entry = |i: usize, j: usize| (f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j] / square) * sigma(j);
    let data: Vec<f32> = (0..n * n).map(|at| entry(at / n, at % n) as f32).collect();
    let w = MatRef::new(&data, n, n).unwrap();
    let ranks = [1, 8, 20];
    let total: f64 = (0..n).map(|j| sigma(j).powi(2)).sum();
    for device in devices() {
        let curve = interp::svd_curve(&device, w, &ranks).unwrap();
        for (&p, &error) in ranks.iter().zip(&curve) {
            let exact = ((p..n).map(|j| sigma(j).powi(2)).sum::<f64>() / total).sqrt();
            // From above, and settled to 1e-4 per step of the space.
            assert!(error >= exact - 1e-6 && error <= exact * (1.0 + 1e-3), "rank {p}: {error}, not {exact}");
        }
    }
}

#[test]
fn the_same_bits_for_one_and_two_threads() {
    let padded = Padded::<f16>::new(&Draw::new(2).gaussian(300, 120), 3);
    for device in devices() {
        let run = |threads| {
            on_threads(threads, || {
                let mut all = interp::error_curve(&device, padded.view(), &[7, 250, 3, 9, 100], &[1, 3, 5]).unwrap();
                all.extend(interp::svd_curve(&device, padded.view(), &[1, 10]).unwrap());
                all.into_iter().map(f64::to_bits).collect::<Vec<_>>()
            })
        };
        assert_eq!(run(1), run(2));
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let w = Draw::new(1).gaussian(4, 3);
    let padded = Padded::<f32>::new(&w, 0);
    for device in devices() {
        let curve = |skeleton: &[u32], at: &[usize]| {
            interp::error_curve(&device, padded.view(), skeleton, at).unwrap_err().to_string()
        };
        assert_eq!(curve(&[0, 4], &[1]), "interp: `skeleton` is row 4, expected row numbers below 4");
        assert_eq!(curve(&[0, 3], &[1, 3]), "interp: `checkpoints` is 3, expected at most 2, the skeleton's length");
        let error = |rows: &[u32], skeleton: &[u32]| {
            interp::relative_error(&device, padded.view(), rows, skeleton).unwrap_err().to_string()
        };
        assert_eq!(error(&[9], &[0]), "interp: `rows` is row 9, expected row numbers below 4");
        assert_eq!(error(&[1], &[7]), "interp: `skeleton` is row 7, expected row numbers below 4");
        let mut bad = w.clone();
        bad.row_mut(3)[2] = f64::INFINITY;
        let bad = Padded::<f32>::new(&bad, 1);
        let place = "interp: `w` has inf at row 3, column 2; every entry must be finite";
        assert_eq!(interp::relative_error(&device, bad.view(), &[0, 3], &[1]).unwrap_err().to_string(), place);
        assert_eq!(interp::relative_error(&device, bad.view(), &[0], &[3]).unwrap_err().to_string(), place);
        assert_eq!(interp::error_curve(&device, bad.view(), &[1], &[1]).unwrap_err().to_string(), place);
        assert_eq!(interp::svd_curve(&device, bad.view(), &[1]).unwrap_err().to_string(), place);
        assert_eq!(interp::relative_error(&device, padded.view(), &[], &[1]).unwrap(), 0.0, "no rows, no error");
    }
}

#[test]
fn refusals_of_factors_say_what_is_wrong() {
    let r = || Mat::from_vec(vec![2.0, 1.0, 0.5, 0.0, 3.0, 1.0], 2, 3).unwrap();
    let one = |jpvt: Vec<u32>, r: Mat<f64>| Factor { jpvt, r, info: Info::default() };
    for device in solvers() {
        let message = |jpvt: Vec<u32>, r: Mat<f64>| {
            let bad = one(jpvt, r);
            let message = interp::coeffs(&device, &bad).unwrap_err().to_string();
            let among = interp::coeffs_many(&device, &[one(vec![0], Mat::from_vec(vec![1.0], 1, 1).unwrap()), bad]);
            assert_eq!(among.unwrap_err().to_string(), message);
            message
        };
        assert_eq!(message(vec![0], r()), "interp: `r` has shape [2, 3], expected shape [1, 3]");
        assert_eq!(message(vec![0, 3], r()), "interp: `jpvt` is 3 at step 1, expected positions below 3");
        assert_eq!(message(vec![1, 1], r()), "interp: `jpvt` is 1 twice, expected distinct positions");
        assert_eq!(
            message(vec![1, 0], r()),
            "interp: `r` is 0 at step 1, expected a finite, non-zero diagonal entry for every pivot"
        );
        let empty = one(vec![], Mat::zeros(0, 5).unwrap());
        assert_eq!(interp::coeffs(&device, &empty).unwrap().shape(), (5, 0));
    }
}
