//! Truncated QR of `Cᵀ` with greedy column pivoting, for the rows of one group `C`.

use crate::mat::{Mat, MatRef};
use crate::reference::norms::row_norms;

/// `Cᵀ P ≈ Q R`, truncated.
#[derive(Clone, Debug)]
pub struct Factor {
    /// Pivots in the order they were taken. Its length is the rank reached.
    pub jpvt: Vec<usize>,
    /// Orthonormal vectors, one per row, `[rank reached, n]`.
    pub q: Mat<f64>,
    /// `R = Qᵀ Cᵀ`, `[rank reached, c]`, columns in the order of the rows of `C`.
    pub r: Mat<f64>,
    /// Norm of each pivot's residual when it was taken.
    pub residuals: Vec<f64>,
    /// Largest residual norm after the last pivot.
    pub remaining: f64,
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// Removes from every row its component along the unit vector `q`, twice; returns what was removed.
fn deflate(rest: &mut Mat<f64>, q: &[f64]) -> Vec<f64> {
    let mut removed = vec![0.0; rest.rows()];
    for _ in 0..2 {
        for (i, removed) in removed.iter_mut().enumerate() {
            let product = dot(rest.row(i), q);
            rest.row_mut(i).iter_mut().zip(q).for_each(|(x, q)| *x -= product * q);
            *removed += product;
        }
    }
    removed
}

fn copied(c: MatRef<'_, f64>) -> Mat<f64> {
    let data = c.iter_rows().flatten().copied().collect();
    Mat::from_vec(data, c.rows(), c.cols()).expect("rows·cols elements")
}

/// Takes at most `rank` pivots: always the row whose residual is longest (ties to the lowest index), until that
/// length is at most `tolerance`. The residuals are formed explicitly, and so are their norms.
pub fn pivoted_qr(c: MatRef<'_, f64>, rank: usize, tolerance: f64) -> Factor {
    let mut rest = copied(c);
    let (mut jpvt, mut q, mut r, mut residuals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let leader = |rest: &Mat<f64>, jpvt: &[usize]| {
        let norms = row_norms(rest.as_ref());
        (0..norms.len())
            .filter(|i| !jpvt.contains(i))
            .fold((0, 0.0), |best, i| if norms[i] > best.1 { (i, norms[i]) } else { best })
    };
    while jpvt.len() < rank {
        let (p, norm) = leader(&rest, &jpvt);
        if norm <= tolerance || norm == 0.0 {
            break;
        }
        let direction: Vec<f64> = rest.row(p).iter().map(|x| x / norm).collect();
        r.extend(deflate(&mut rest, &direction));
        q.extend(direction);
        jpvt.push(p);
        residuals.push(norm);
    }
    let (reached, remaining) = (jpvt.len(), leader(&rest, &jpvt).1);
    Factor {
        jpvt,
        q: Mat::from_vec(q, reached, c.cols()).expect("a vector per pivot"),
        r: Mat::from_vec(r, reached, c.rows()).expect("a row per pivot"),
        residuals,
        remaining,
    }
}

/// The part of every row of `c` outside the span of its rows `chosen`. A chosen row that the ones before it span to
/// `1e-14` of its length adds nothing.
pub fn residual(c: MatRef<'_, f64>, chosen: &[usize]) -> Mat<f64> {
    let mut rest = copied(c);
    for &p in chosen {
        let norm = dot(rest.row(p), rest.row(p)).sqrt();
        if norm > 1e-14 * dot(c.row(p), c.row(p)).sqrt() {
            let direction: Vec<f64> = rest.row(p).iter().map(|x| x / norm).collect();
            deflate(&mut rest, &direction);
        }
    }
    rest
}
