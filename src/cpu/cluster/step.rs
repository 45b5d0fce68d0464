//! One Lloyd step: the nearest centroid of every point, and the sums of the next centroids.
//!
//! `label(p) = argmin_j ½‖c_j‖² − ⟨x_p, c_j⟩`, ties to the lowest `j`. Four things keep a step below one pass over `W`:
//!
//! * **Screening.** Dots of 16-bit codes (`codes.rs`), half the bytes of `f32`, carry a bound; where only one centroid can
//!   be nearest within it, that is the label. The others, a few percent, are decided by dots in `f32`.
//! * **Memory.** Dots of a centroid that has not moved since are kept; towards the end of an iteration most have not.
//! * **Moves.** Sums are kept in `f64`, and only points whose label changed are subtracted and added.
//! * **Tiles.** Blocks of rows meet all centroids strip by strip, in registers and the first cache.
//!
//! Work is cut by points or columns into blocks of fixed size, each with its own results: the same bits for every number of
//! threads.

use super::centres::Centres;
use super::codes::{self, BLOCK, Codes, row_stride};
use super::dots::{MAX_LANES, dots};
use super::points::Points;
use super::sums::{Move, Sums};
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, zeroed};
use pulp::Arch;
use rayon::prelude::*;

/// Points of a task.
const CHUNK: usize = 256;
/// The label of a point that has none yet.
const NONE: u32 = u32::MAX;

/// Buffers of one task that scores points in `f32`.
struct Scratch {
    /// `BLOCK` points, padded with zeros.
    rows: Vec<f32>,
    /// Accumulators of `dots.rs`.
    lanes: Vec<f32>,
    /// Dots `[k, BLOCK]`.
    dots: Vec<f32>,
    /// Scores of one point.
    scores: Vec<f64>,
}

impl Scratch {
    fn new(k: usize, dim: usize) -> Result<Self> {
        Ok(Self {
            rows: zeroed("widened rows", BLOCK * row_stride(dim))?,
            lanes: zeroed("accumulators", k * BLOCK * MAX_LANES)?,
            dots: zeroed("dots", k * BLOCK)?,
            scores: zeroed("scores", k)?,
        })
    }
}

/// State of the iteration that steps carry forward.
pub(super) struct Step {
    /// Labels, sizes and `Σ x` of the clusters as last adopted.
    pub(super) labels: Vec<u32>,
    pub(super) sizes: Vec<usize>,
    pub(super) sums: Sums,
    codes: Codes,
    /// Dots of codes, `[points, k]`: those of a centroid that has not moved are still right.
    dots: Mat<f32>,
}

impl Step {
    pub(super) fn new<T: Elem>(points: &Points<'_, T>, codes: Codes, k: usize) -> Result<Self> {
        let mut labels = zeroed("labels", points.count())?;
        labels.fill(NONE);
        Ok(Self {
            labels,
            sizes: zeroed("sizes", k)?,
            sums: Sums::new(k, points.dim())?,
            codes,
            dots: Mat::zeros(points.count(), k)?,
        })
    }

    /// The nearest centroid of every point.
    pub(super) fn nearest<T: Elem>(
        &mut self,
        arch: Arch,
        points: &Points<'_, T>,
        centres: &mut Centres,
    ) -> Result<Vec<u32>> {
        let k = self.sizes.len();
        let mut labels: Vec<u32> = zeroed("labels", points.count())?;
        let view = View { arch, points, codes: &self.codes, centres };
        let chunks = labels.par_chunks_mut(CHUNK).zip(self.dots.data_mut().par_chunks_mut(CHUNK * k));
        chunks.enumerate().try_for_each(|(chunk, (labels, dots))| {
            let first = chunk * CHUNK;
            let undecided = view.screen(first, labels, dots)?;
            if undecided.is_empty() {
                return Ok(());
            }
            let mut scratch = Scratch::new(k, points.dim())?;
            for block in undecided.chunks(BLOCK) {
                view.score(&mut scratch, block, |p, scores| labels[p - first] = argmin(scores));
            }
            Ok::<_, crate::Error>(())
        })?;
        centres.changed.clear();
        Ok(labels)
    }

    /// `½‖x_p − c_j‖²` up to a term of `p` alone, `[points, k]`, by dots in `f32`.
    pub(super) fn scores<T: Elem>(&self, arch: Arch, points: &Points<'_, T>, centres: &Centres) -> Result<Mat<f64>> {
        let k = self.sizes.len();
        let mut scores: Mat<f64> = Mat::zeros(points.count(), k)?;
        let view = View { arch, points, codes: &self.codes, centres };
        scores.data_mut().par_chunks_mut(CHUNK * k).enumerate().try_for_each(|(chunk, out)| {
            let mut scratch = Scratch::new(k, points.dim())?;
            for (block, out) in out.chunks_mut(BLOCK * k).enumerate() {
                let first = chunk * CHUNK + block * BLOCK;
                let (rows, count) = (std::array::from_fn::<_, BLOCK, _>(|r| first + r), out.len() / k);
                view.score(&mut scratch, &rows[..count], |p, scores| {
                    out[(p - first) * k..][..k].copy_from_slice(scores);
                });
            }
            Ok::<_, crate::Error>(())
        })?;
        Ok(scores)
    }

    /// Takes `labels`; sizes and sums follow, in the order of the points. Returns how many points changed their label.
    pub(super) fn adopt<T: Elem>(&mut self, arch: Arch, points: &Points<'_, T>, labels: Vec<u32>) -> Result<usize> {
        let moves: Vec<Move> = (self.labels.iter().zip(&labels).enumerate())
            .filter(|(_, (from, to))| from != to)
            .map(|(point, (&from, &to))| Move { point, from: (from != NONE).then_some(from as usize), to: to as usize })
            .collect();
        for step in &moves {
            if let Some(from) = step.from {
                self.sizes[from] -= 1;
            }
            self.sizes[step.to] += 1;
        }
        self.labels = labels;
        self.sums.apply(arch, points, &moves)?;
        Ok(moves.len())
    }
}

/// What a task reads.
struct View<'a, 'w, T> {
    arch: Arch,
    points: &'a Points<'w, T>,
    codes: &'a Codes,
    centres: &'a Centres,
}

impl<T: Elem> View<'_, '_, T> {
    /// Labels the points from `first` on where the bounds leave one centroid; returns those where they do not.
    fn screen(&self, first: usize, labels: &mut [u32], dots: &mut [f32]) -> Result<Vec<usize>> {
        let (codes, centres) = (self.codes, self.centres);
        let k = centres.offsets.len();
        let mut lanes = zeroed("accumulators", k * BLOCK)?;
        let mut scores = zeroed("scores", k)?;
        let mut undecided = Vec::new();
        for (block, (labels, dots)) in labels.chunks_mut(BLOCK).zip(dots.chunks_mut(BLOCK * k)).enumerate() {
            let first = first + block * BLOCK;
            // A short last block repeats its last row; the copies are computed and dropped.
            let rows = std::array::from_fn(|r| codes.row(first + r.min(labels.len() - 1)));
            codes::dots(rows, &centres.codes, &centres.changed, &mut lanes);
            for (r, (label, dots)) in labels.iter_mut().zip(dots.chunks_mut(k)).enumerate() {
                for (i, &j) in centres.changed.iter().enumerate() {
                    dots[j] = codes::total(&lanes[i * BLOCK + r]);
                }
                let point = codes.vectors[first + r].times(self.points.factor_of_codes(first + r));
                match centres.only_candidate(point, dots, &mut scores) {
                    Some(j) => *label = j,
                    None => undecided.push(first + r),
                }
            }
        }
        Ok(undecided)
    }

    /// Hands out the scores of the points of `block`, at most [`BLOCK`], against every centroid, by dots in `f32`.
    fn score(&self, scratch: &mut Scratch, block: &[usize], mut each: impl FnMut(usize, &[f64])) {
        let (points, centres) = (self.points, self.centres);
        let stride = row_stride(points.dim());
        for (to, &p) in scratch.rows.chunks_mut(stride).zip(block) {
            points.copy(p, &mut to[..points.dim()]);
        }
        // Rows past a short block keep what they held: computed and dropped.
        let rows = std::array::from_fn(|r| &scratch.rows[r * stride..][..stride]);
        dots(self.arch, rows, &centres.centred, &mut scratch.lanes, &mut scratch.dots);
        for (r, &p) in block.iter().enumerate() {
            let dots = scratch.dots[r..].iter().step_by(BLOCK);
            for ((score, offset), &dot) in scratch.scores.iter_mut().zip(&centres.offsets).zip(dots) {
                *score = offset - points.factor(p) * f64::from(dot);
            }
            each(p, &scratch.scores);
        }
    }
}

/// The lowest index of the least score.
pub(super) fn argmin(scores: &[f64]) -> u32 {
    let mut best = 0;
    for (j, score) in scores.iter().enumerate().skip(1) {
        if *score < scores[best] {
            best = j;
        }
    }
    best as u32
}
