//! Centroids in the forms that the kernels read, and what can be told from dots of codes.
//!
//! With `μ` the mean of the points (of the centroids, in the first step), `½‖c‖² − ⟨x,c⟩` differs from
//! `½‖c−μ‖² + ⟨μ,c−μ⟩ − ⟨x,c−μ⟩` by a term without `j`. Dots run over `c − μ`, so that their rounding does not grow with an
//! offset that all points share: at most `(n + 8)·u·Σ|x||c−μ|` in `f32`, in whatever order, with one `u` for `c − μ` itself.
//! The rest is `f64`.

use super::codes::{self, Coded, Codes, row_stride};
use super::measure::measure_and_code;
use crate::error::Result;
use crate::mat::{Mat, zeroed};
use pulp::Arch;

/// Centroids as the kernels read them.
pub(super) struct Centres {
    /// The centroids themselves, and `μ`.
    exact: Mat<f64>,
    mean: Vec<f64>,
    /// `f32(c_j − μ)`, rows padded with zeros.
    pub(super) centred: Mat<f32>,
    /// The same in 16-bit codes.
    pub(super) codes: Codes,
    /// `½‖c_j − μ‖² + ⟨μ, c_j − μ⟩`.
    pub(super) offsets: Vec<f64>,
    /// What a point's slack and its norm add to the bound on its dot with `c_j − μ`.
    bounds: Vec<[f64; 2]>,
    /// Centroids that differ from those that dots of codes were last taken with.
    pub(super) changed: Vec<usize>,
}

impl Centres {
    /// Takes centroids, all of them changed; their own mean serves as `μ`.
    pub(super) fn new(arch: Arch, centroids: &Mat<f64>) -> Result<Self> {
        let (k, dim) = centroids.shape();
        let mut centres = Self {
            exact: Mat::zeros(k, dim)?,
            mean: zeroed("mean of the centroids", dim)?,
            centred: Mat::zeros(k, row_stride(dim))?,
            codes: Codes::new(k, dim)?,
            offsets: zeroed("offsets", k)?,
            bounds: zeroed("bounds", k)?,
            changed: Vec::new(),
        };
        for j in 0..k {
            centres.mean.iter_mut().zip(centroids.row(j)).for_each(|(m, c)| *m += c / k as f64);
        }
        (0..k).try_for_each(|j| centres.set_one(arch, j, centroids.row(j)))?;
        Ok(centres)
    }

    /// Takes `mean` as `μ` from here on.
    pub(super) fn set_mean(&mut self, arch: Arch, mean: Vec<f64>) -> Result<()> {
        self.mean = mean;
        let exact = self.exact.clone();
        (0..exact.rows()).try_for_each(|j| self.set_one(arch, j, exact.row(j)))
    }

    /// Takes the centroids that differ from those it has.
    pub(super) fn set(&mut self, arch: Arch, centroids: &Mat<f64>) -> Result<()> {
        for j in 0..centroids.rows() {
            if centroids.row(j) != self.exact.row(j) {
                self.set_one(arch, j, centroids.row(j))?;
            }
        }
        Ok(())
    }

    fn set_one(&mut self, arch: Arch, j: usize, centroid: &[f64]) -> Result<()> {
        let dim = centroid.len();
        self.exact.row_mut(j).copy_from_slice(centroid);
        let mut offset = 0.0;
        for ((centred, &c), &m) in self.centred.row_mut(j).iter_mut().zip(centroid).zip(&self.mean) {
            let d = c - m;
            *centred = d as f32;
            offset += d * (0.5 * d + m);
        }
        self.offsets[j] = offset;
        let (ld, codes) = (self.codes.ld, &mut self.codes);
        let coded = measure_and_code(arch, &self.centred.row(j)[..dim], &mut codes.codes[j * ld..][..ld])?;
        codes.vectors[j] = coded;
        let norm = coded.norm + coded.slack;
        // The rounding to `f32` is inside the slack; 1.01 covers the point's own slack in ‖x̂‖ ≤ ‖x‖ + slack.
        self.bounds[j] = [norm, coded.slack + 1.01 * codes::rounding(dim) * norm];
        if !self.changed.contains(&j) {
            self.changed.push(j);
            self.changed.sort_unstable();
        }
        Ok(())
    }

    /// The one centroid that can be nearest to a point, given its dots of codes; `None` where several can.
    pub(super) fn only_candidate(&self, point: Coded, dots: &[f32], lowest: &mut [f64]) -> Option<u32> {
        // The least that any score can be at most, and the least that each can be.
        let mut reach = f64::INFINITY;
        for (j, (&dot, lowest)) in dots.iter().zip(lowest.iter_mut()).enumerate() {
            let [slack, norm] = self.bounds[j];
            let score = self.offsets[j] - point.unit * self.codes.vectors[j].unit * f64::from(dot);
            let bound = point.slack * slack + point.norm * norm;
            reach = f64::min(reach, score + bound);
            *lowest = score - bound;
        }
        let mut candidates = lowest.iter().enumerate().filter(|(_, lowest)| **lowest <= reach);
        match (candidates.next(), candidates.next()) {
            (Some((j, _)), None) => Some(j as u32),
            _ => None,
        }
    }
}
