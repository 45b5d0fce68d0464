//! One Lloyd step: the nearest centroid of every point, and the sums of the next centroids.
//!
//! `label(p) = argmin_j ½‖c_j‖² − ⟨x_p, c_j⟩`, ties to the lowest `j`. The first steps take dots in `f32`, straight from `W`
//! where it holds them so. Four things keep later ones below one pass over `W`:
//!
//! * **Screening.** Dots of 16-bit codes (`codes.rs`), half the bytes of `f32`, carry a bound; where only one centroid can
//!   be nearest within it, that is the label. The others, a few percent, are decided by dots in `f32`.
//! * **Memory.** Dots of codes of a centroid that has not moved since are kept; towards the end of an iteration most have not.
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

/// Nearest labels to take by dots in `f32` before points are coded.
///
/// Coding costs about six passes over `W`, most of it for the new memory. A step then gains half a pass with four centroids,
/// whose dots in `f32` keep up with memory, and two passes with sixteen. Short runs, and runs that a minimum size keeps from
/// nearest labels, never pay.
fn direct_passes(k: usize) -> usize {
    if k < 8 { 16 } else { 1 }
}

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
    /// Times that nearest labels were taken in `f32`.
    passes: usize,
    codes: Option<Codes>,
    /// Dots of codes, `[points, k]`: those of a centroid that has not moved are still right.
    dots: Mat<f32>,
}

impl Step {
    pub(super) fn new<T: Elem>(points: &Points<'_, T>, k: usize) -> Result<Self> {
        let mut labels = zeroed("labels", points.count())?;
        labels.fill(NONE);
        Ok(Self {
            labels,
            sizes: zeroed("sizes", k)?,
            sums: Sums::new(k, points.dim())?,
            passes: 0,
            codes: None,
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
        if self.passes < direct_passes(k) {
            self.passes += 1;
            let view = View { arch, points, centres };
            labels.par_chunks_mut(CHUNK).enumerate().try_for_each(|(chunk, labels)| {
                let points = chunk * CHUNK..chunk * CHUNK + labels.len();
                let mut labels = labels.iter_mut();
                view.score_range(points, |scores| labels.next().into_iter().for_each(|label| *label = argmin(scores)))
            })?;
            return Ok(labels);
        }
        let codes = match &self.codes {
            Some(codes) => codes,
            None => self.codes.insert(Codes::of_rows(arch, points.w)?),
        };
        let view = View { arch, points, centres };
        let chunks = labels.par_chunks_mut(CHUNK).zip(self.dots.data_mut().par_chunks_mut(CHUNK * k));
        chunks.enumerate().try_for_each(|(chunk, (labels, dots))| {
            let first = chunk * CHUNK;
            let undecided = view.screen(codes, first, labels, dots)?;
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
        let view = View { arch, points, centres };
        scores.data_mut().par_chunks_mut(CHUNK * k).enumerate().try_for_each(|(chunk, out)| {
            let points = chunk * CHUNK..chunk * CHUNK + out.len() / k;
            let mut out = out.chunks_exact_mut(k);
            view.score_range(points, |scores| out.next().into_iter().for_each(|out| out.copy_from_slice(scores)))
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
        self.sums.apply(arch, points, &moves, self.sizes.len())?;
        Ok(moves.len())
    }
}

/// What a task reads.
struct View<'a, 'w, T> {
    arch: Arch,
    points: &'a Points<'w, T>,
    centres: &'a Centres,
}

impl<T: Elem> View<'_, '_, T> {
    /// Labels the points from `first` on where the bounds leave one centroid; returns those where they do not.
    fn screen(&self, codes: &Codes, first: usize, labels: &mut [u32], dots: &mut [f32]) -> Result<Vec<usize>> {
        let centres = self.centres;
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

    /// Hands out the scores of the points of `range`, in their order.
    fn score_range(&self, range: std::ops::Range<usize>, mut each: impl FnMut(&[f64])) -> Result<()> {
        let mut scratch = Scratch::new(self.centres.offsets.len(), self.points.dim())?;
        for first in range.clone().step_by(BLOCK) {
            let block: [usize; BLOCK] = std::array::from_fn(|r| first + r);
            self.score(&mut scratch, &block[..BLOCK.min(range.end - first)], |_, scores| each(scores));
        }
        Ok(())
    }

    /// Hands out the scores of the points of `block`, at most [`BLOCK`], against every centroid, by dots in `f32`.
    fn score(&self, scratch: &mut Scratch, block: &[usize], mut each: impl FnMut(usize, &[f64])) {
        let (points, centres) = (self.points, self.centres);
        let stride = row_stride(points.dim());
        for (to, &p) in scratch.rows.chunks_mut(stride).zip(block) {
            if points.borrow(p).is_none() {
                points.copy(p, &mut to[..points.dim()]);
            }
        }
        // A short block repeats its last row; the copies are computed and dropped.
        let rows = std::array::from_fn(|r| {
            let r = r.min(block.len() - 1);
            points.borrow(block[r]).unwrap_or(&scratch.rows[r * stride..][..stride])
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Space;
    use crate::cpu::cluster::measure::Measure;
    use crate::random::{Stream, Use};

    fn gaussian(rows: usize, cols: usize, stream: &mut Stream) -> Mat<f64> {
        Mat::from_vec((0..rows * cols).map(|_| stream.normal()).collect(), rows, cols).unwrap()
    }

    /// Points beside planes between two centroids, most of them nearer than codes can tell.
    fn near_ties(rows: usize, centroids: &Mat<f64>, stream: &mut Stream) -> Mat<f32> {
        let (k, cols) = centroids.shape();
        let mut w = gaussian(rows, cols, stream);
        for i in 0..rows {
            let (a, b) = (centroids.row(i % k), centroids.row((i + 1 + i / k % (k - 1)) % k));
            let across = || a.iter().zip(b).map(|(a, b)| a - b);
            let square: f64 = across().map(|d| d * d).sum();
            let along = across().zip(w.row(i)).map(|(d, x)| 0.3 * d * x).sum::<f64>() / square;
            let side = (stream.uniform() - 0.5) * 10f64.powf(-1.0 - 3.0 * stream.uniform());
            for ((x, d), b) in w.row_mut(i).iter_mut().zip(across()).zip(b) {
                *x = b + (0.5 + side - along) * d + 0.3 * *x;
            }
        }
        Mat::from_vec(w.data().iter().map(|&x| x as f32).collect(), rows, cols).unwrap()
    }

    #[test]
    fn codes_and_single_precision_agree_on_labels() {
        let (arch, stream) = (Arch::new(), &mut Stream::new(5, Use::Seeding));
        for (cols, k) in [(5, 2), (16, 3), (33, 9), (100, 5), (1025, 5), (2048, 16)] {
            let mut centroids = gaussian(k, cols, stream);
            let w = near_ties(300, &centroids, stream);
            let measure = Measure::of(arch, w.as_ref()).unwrap();
            let points = Points::new(w.as_ref(), &measure, Space::Full, 0).unwrap();
            let mut centres = Centres::new(arch, &centroids).unwrap();
            let mut coded = Step::new(&points, k).unwrap();
            coded.passes = usize::MAX;
            // Again with one centroid moved: dots with the others are kept.
            for _ in 0..2 {
                let direct = Step::new(&points, k).unwrap().nearest(arch, &points, &mut centres).unwrap();
                let labels = coded.nearest(arch, &points, &mut centres).unwrap();
                assert_eq!(labels, direct, "{cols} columns, k = {k}");
                centroids.row_mut(k / 2).iter_mut().for_each(|c| *c *= 0.75);
                centres.set(arch, &centroids).unwrap();
            }
        }
    }
}
