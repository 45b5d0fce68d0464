//! Pivots, residuals, errors and singular values against LAPACK's in f64 (`tests/data/golden/make_qr.py`).

use crate::common::factors::factor;
use crate::common::{Padded, devices};
use idlora::qr::{Stop, Tier};
use idlora::{Elem, Mat, MatRef, bf16, f16, interp};
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
    real: Real,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    rows: usize,
    cols: usize,
    data: Vec<f64>,
    pivots: Vec<u32>,
    diagonal: Vec<f64>,
    errors: Vec<f64>,
    singular_values: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Real {
    tensor: String,
    rank: usize,
    by_dtype: std::collections::HashMap<String, RealCase>,
}

#[derive(serde::Deserialize)]
struct RealCase {
    pivots: Vec<u32>,
    errors: Vec<f64>,
    svd_error: f64,
    norm_error: f64,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/qr.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Pivots, diagonal of `R`, errors of every rank and singular values of LAPACK in f64, in every element type that
/// holds the matrix.
fn equals_lapack<T: Elem>() -> usize {
    let mut held = 0;
    for case in golden().cases {
        let values = Mat::from_vec(case.data.clone(), case.rows, case.cols).unwrap();
        let padded = Padded::<T>::new(&values, 1);
        let exact = |x: &f64| f64::from(T::from_f32(*x as f32).to_f32()) == f64::from(*x as f32);
        if !case.data.iter().all(exact) {
            continue;
        }
        held += 1;
        for device in devices() {
            for tier in [Tier::Gram, Tier::Exact] {
                let what = format!("{} {:?} {tier:?}", case.name, T::DTYPE);
                let f = factor(&device, padded.view(), case.pivots.len(), tier, &Stop::default());
                assert_eq!(f.jpvt, case.pivots, "{what}");
                for (j, (&x, &y)) in f.info.residuals.iter().zip(&case.diagonal).enumerate() {
                    let bound = 1e-13 * case.diagonal[0] + 0.5f64.powi(11) * y;
                    assert!((x - y).abs() <= bound, "{what}: residual {j} is {x:e}, not {y:e}");
                }
                let ranks: Vec<usize> = (0..case.errors.len()).collect();
                let curve = interp::error_curve(&device, padded.view(), &f.jpvt, &ranks).unwrap();
                for (p, (&x, &y)) in curve.iter().zip(&case.errors).enumerate() {
                    assert!((x - y).abs() <= 1e-3 * y + 1e-13, "{what}: error {p} is {x:e}, not {y:e}");
                    assert!((x - y).abs() <= 1e-12, "{what}: error {p} is {x:e}, not {y:e}");
                }
            }
            let squares: Vec<f64> = case.singular_values.iter().map(|s| s * s).collect();
            let ranks: Vec<usize> = (0..=squares.len()).collect();
            let curve = interp::svd_curve(&device, padded.view(), &ranks).unwrap();
            for (&p, error) in ranks.iter().zip(curve) {
                let exact = squares[p..].iter().sum::<f64>() / squares.iter().sum::<f64>();
                assert!((error * error - exact).abs() <= 1e-13, "{}: SVD error {p}", case.name);
            }
        }
    }
    held
}

#[test]
fn pivots_errors_and_singular_values_equal_lapacks() {
    assert_eq!(equals_lapack::<f32>(), golden().cases.len());
    assert!(equals_lapack::<f16>() >= 4 && equals_lapack::<bf16>() >= 4);
}

/// Every safetensors file below `folder`.
fn weight_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            weight_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "safetensors") {
            found.push(path);
        }
    }
}

fn real_equals_lapack<T: Elem>(bytes: &[u8], rows: usize, cols: usize, rank: usize, case: &RealCase) {
    let data: Vec<T> = bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
    let w = MatRef::new(&data, rows, cols).unwrap();
    for device in devices() {
        for tier in [Tier::Gram, Tier::Exact] {
            let f = factor(&device, w, rank, tier, &Stop::default());
            assert_eq!(f.jpvt, case.pivots, "{tier:?}");
            let curve = interp::error_curve(&device, w, &f.jpvt, &(0..=rank).collect::<Vec<_>>()).unwrap();
            assert!(curve.iter().zip(&case.errors).all(|(x, y)| (x - y).abs() <= 1e-12), "{tier:?}: {curve:?}");
        }
        let svd = interp::svd_curve(&device, w, &[rank]).unwrap()[0];
        assert!((svd - case.svd_error).abs() <= 1e-12, "{svd}");
        let mut by_norm: Vec<u32> = (0..rows as u32).collect();
        let square = |i: u32| w.row(i as usize).iter().map(|x| f64::from(x.to_f32()).powi(2)).sum::<f64>();
        by_norm.sort_by(|&a, &b| square(b).total_cmp(&square(a)));
        let norm = interp::error_curve(&device, w, &by_norm[..rank], &[rank]).unwrap()[0];
        assert!((norm - case.norm_error).abs() <= 1e-12, "{norm}");
        assert!(case.svd_error < curve_end(case) && curve_end(case) < case.norm_error);
    }
}

fn curve_end(case: &RealCase) -> f64 {
    case.errors[case.errors.len() - 1]
}

#[test]
fn real_weights_equal_lapacks() {
    let real = golden().real;
    let mut files = Vec::new();
    weight_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"), &mut files);
    let mut seen = 0;
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let Ok(file) = safetensors::SafeTensors::deserialize(&bytes) else { continue };
        let Ok(tensor) = file.tensor(&real.tensor) else { continue };
        let (rows, cols) = (tensor.shape()[0], tensor.shape()[1]);
        let check = |name: &str| &real.by_dtype[name];
        match tensor.dtype() {
            safetensors::Dtype::F32 => real_equals_lapack::<f32>(tensor.data(), rows, cols, real.rank, check("F32")),
            safetensors::Dtype::F16 => real_equals_lapack::<f16>(tensor.data(), rows, cols, real.rank, check("F16")),
            safetensors::Dtype::BF16 => real_equals_lapack::<bf16>(tensor.data(), rows, cols, real.rank, check("BF16")),
            other => panic!("{}: {other:?}", path.display()),
        }
        seen += 1;
    }
    if seen == 0 {
        println!("skipped: no file below tests/data holds {}", real.tensor);
    }
}
