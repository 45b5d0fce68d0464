//! The matrix zoo: seeded matrices of every kind that breaks clustering and pivoting somewhere.

use idlora::Mat;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded source of numbers for tests.
pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub fn gaussian(&mut self, rows: usize, cols: usize) -> Mat<f64> {
        Mat::from_vec((0..rows * cols).map(|_| self.normal()).collect(), rows, cols).unwrap()
    }
}

/// `Σ_j σ_j u_j v_jᵀ` with random directions (nearly orthogonal in high dimension).
pub fn with_spectrum(draw: &mut Draw, rows: usize, cols: usize, sigma: &[f64]) -> Mat<f64> {
    let mut out = Mat::zeros(rows, cols).unwrap();
    for &s in sigma {
        let u: Vec<f64> = (0..rows).map(|_| draw.normal() / (rows as f64).sqrt()).collect();
        let v: Vec<f64> = (0..cols).map(|_| draw.normal() / (cols as f64).sqrt()).collect();
        for (i, ui) in u.iter().enumerate() {
            for (x, vj) in out.row_mut(i).iter_mut().zip(&v) {
                *x += s * ui * vj;
            }
        }
    }
    out
}

/// Rows of Kahan's matrix transposed: every remaining norm nearly ties at every step.
pub fn kahan(n: usize, angle: f64) -> Mat<f64> {
    let (s, c) = angle.sin_cos();
    let mut out = Mat::zeros(n, n).unwrap();
    for col in 0..n {
        // column `col` of the upper triangular Kahan matrix is row `col` here
        for row in 0..=col {
            out.row_mut(col)[row] = s.powi(row as i32) * if row == col { 1.0 } else { -c };
        }
    }
    out
}

/// Named matrices of one shape.
pub fn zoo(seed: u64, rows: usize, cols: usize) -> Vec<(&'static str, Mat<f64>)> {
    let draw = &mut Draw::new(seed);
    let full = rows.min(cols);
    let powers = |p: f64| (1..=full).map(|j| (j as f64).powf(-p)).collect::<Vec<_>>();
    let mut duplicated = draw.gaussian(rows, cols);
    for i in 1..rows {
        if draw.uniform() < 0.5 {
            let from = draw.below(i);
            let copy = duplicated.row(from).to_vec();
            duplicated.row_mut(i).copy_from_slice(&copy);
        }
    }
    let mut with_zeros = draw.gaussian(rows, cols);
    for i in 0..rows {
        if draw.uniform() < 0.3 {
            with_zeros.row_mut(i).fill(0.0);
        }
    }
    let mut spiked = draw.gaussian(rows, cols);
    spiked.row_mut(rows / 2).iter_mut().for_each(|x| *x *= 100.0);
    let mut graded = draw.gaussian(rows, cols);
    for i in 0..rows {
        graded.row_mut(i).iter_mut().for_each(|x| *x *= 0.9f64.powi(i as i32));
    }
    let mut identity = Mat::zeros(rows, cols).unwrap();
    for i in 0..full {
        identity.row_mut(i)[i] = 1.0;
    }
    let exponential: Vec<f64> = (0..full).map(|j| 0.6f64.powi(j as i32)).collect();
    let stairs: Vec<f64> = (0..full).map(|j| 10f64.powi(-((j / 3) as i32))).collect();
    vec![
        ("gaussian", draw.gaussian(rows, cols)),
        ("polynomial", with_spectrum(draw, rows, cols, &powers(1.0))),
        ("exponential", with_spectrum(draw, rows, cols, &exponential)),
        ("staircase", with_spectrum(draw, rows, cols, &stairs)),
        ("rank-deficient", with_spectrum(draw, rows, cols, &vec![1.0; full.div_ceil(3)])),
        ("kahan", kahan(rows, 1.2)),
        ("duplicated", duplicated),
        ("zero-rows", with_zeros),
        ("spiked", spiked),
        ("graded", graded),
        ("identity", identity),
        ("all-zero", Mat::zeros(rows, cols).unwrap()),
    ]
}
