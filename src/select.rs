//! Which `r` rows of each cluster become the frozen factors.
//!
//! The paper's text takes the rows nearest to the centroid, its title (interpolative decomposition) the pivots of a
//! pivoted QR; largest norm and random rows are the cheap alternatives to compare with. Which is best is a question
//! for measurement ([`interp::error_curve`](crate::interp::error_curve)), not for a default. Cost: one pass over `W`,
//! `O(m·n·r)` products for the pivoted rules.

use crate::cluster::{Clustering, Space};
use crate::cpu;
use crate::device::{Device, on_device};
use crate::elem::Elem;
use crate::error::{Error, Result, check_len, check_shape};
use crate::mat::MatRef;
use crate::qr::{self, Groups, Stop, Tier};
use crate::random::{Stream, Use};
use rayon::prelude::*;

const OP: &str = "select";

/// Columns of a sketch beyond the rank.
const OVERSAMPLING: usize = 8;

/// The rule that picks rows in a cluster. Rows are returned in the order of the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Nearest to the centroid first, in the clustering's space (the paper's text).
    Centroid,
    /// Pivoted QR: the interpolative decomposition (the paper's title).
    #[default]
    PivotedQr,
    /// Pivoted QR of a random sketch.
    Sketch,
    /// Largest norm first.
    Norm,
    /// Random, seeded.
    Random,
}

/// Chosen rows of every cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// Row numbers, `[k, r]` row-major, all distinct, in the order of the rule.
    pub rows: Vec<u32>,
    /// Rank reached in each cluster: below `r` where a cluster's rows span less (pivoted selections only; `r`
    /// otherwise). The remaining places are then filled with the cluster's lowest row numbers not yet taken.
    pub rank_reached: Vec<usize>,
}

/// The problem: `rank` rows in every cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Desc {
    /// The rule.
    pub selection: Selection,
    /// Rows per cluster, `r`.
    pub rank: usize,
    /// Seed of [`Selection::Random`] and [`Selection::Sketch`]; unused by the others.
    pub seed: u64,
    /// Where the clustering compared its points: what "nearest" means to [`Selection::Centroid`].
    pub space: Space,
}

/// A checked problem on a device.
#[derive(Clone, Debug)]
pub struct Plan {
    device: Device,
    desc: Desc,
}

impl Plan {
    /// Plans a selection.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `rank` is 0.
    pub fn new(device: &Device, desc: Desc) -> Result<Self> {
        if desc.rank == 0 {
            return Err(Error::parameter(OP, "rank", "at least 1", 0));
        }
        Ok(Self { device: device.clone(), desc })
    }

    /// Picks rows in every cluster of the rows of `w`. (For columns, pass `Wᵀ`.)
    ///
    /// # Errors
    /// [`Error::Shape`] if the clustering is not one of `w`'s rows in the plan's space, [`Error::Parameter`] for a
    /// label without a cluster or a cluster with fewer rows than `rank`, [`Error::Operand`] for an all-zero row where
    /// directions are compared, [`Error::NonFinite`] for NaN or infinity in `w`.
    pub fn run<T: Elem>(&self, w: MatRef<'_, T>, clustering: &Clustering) -> Result<Skeleton> {
        let groups = self.checked_groups(w, clustering)?;
        let rank = self.desc.rank;
        let score = |score: Vec<f64>| (0..groups.len()).map(|g| smallest(groups.group(g), &score, rank)).collect();
        match self.desc.selection {
            Selection::Centroid => Ok(full(score(self.distances(w, clustering)?), rank)),
            Selection::Norm => Ok(full(score(self.squares(w)?.into_iter().map(|x| -x).collect()), rank)),
            Selection::Random => {
                let mut stream = Stream::new(self.desc.seed, Use::Selection);
                let mut pick = |rows: &[u32]| stream.sample(rows.len(), rank).into_iter().map(|i| rows[i]).collect();
                Ok(full((0..groups.len()).map(|g| pick(groups.group(g))).collect(), rank))
            }
            Selection::PivotedQr => self.pivots(w, &groups, Tier::Gram),
            Selection::Sketch => self.pivots(w, &groups, Tier::Sketch { oversampling: OVERSAMPLING }),
        }
    }

    fn checked_groups<T: Elem>(&self, w: MatRef<'_, T>, clustering: &Clustering) -> Result<Groups> {
        check_len(OP, "labels", w.rows(), clustering.labels.len())?;
        let dim = if self.desc.space == Space::Norm { 1 } else { w.cols() };
        check_shape(OP, "centroids", (clustering.sizes.len(), dim), clustering.centroids.shape())?;
        let clusters = clustering.sizes.len();
        if let Some(i) = clustering.labels.iter().position(|&label| label as usize >= clusters) {
            let expected = format!("labels below {clusters}, the number of clusters");
            return Err(Error::parameter(OP, "labels", expected, format!("{} at row {i}", clustering.labels[i])));
        }
        let groups = Groups::from_labels(&clustering.labels, clusters)?;
        if let Some(g) = (0..groups.len()).find(|&g| groups.group(g).len() < self.desc.rank) {
            let expected = format!("at most {}, the size of cluster {g}", groups.group(g).len());
            return Err(Error::parameter(OP, "rank", expected, self.desc.rank));
        }
        Ok(groups)
    }

    fn squares<T: Elem>(&self, w: MatRef<'_, T>) -> Result<Vec<f64>> {
        on_device!(
            &self.device,
            cpu => {
                let mut squares = crate::mat::zeroed("squared norms", w.rows())?;
                cpu::norms::squared_rows(OP, w, None, &mut squares)?;
                Ok(squares)
            },
            gpu => Ok(crate::gpu::rows::Rows::all(gpu, OP, w)?.host_squares)
        )
    }

    /// Distance of every row to its cluster's centroid: squared for the spaces of vectors, plain for norms.
    fn distances<T: Elem>(&self, w: MatRef<'_, T>, clustering: &Clustering) -> Result<Vec<f64>> {
        let centroid = |i: usize| clustering.centroids.row(clustering.labels[i] as usize);
        if self.desc.space == Space::Norm {
            let apart = |(i, square): (usize, f64)| (square.sqrt() - f64::from(centroid(i)[0])).abs();
            return Ok(self.squares(w)?.into_iter().enumerate().map(apart).collect());
        }
        on_device!(
            &self.device,
            cpu => {
                let factors = self.factors(&self.squares(w)?)?;
                let one = |i: usize| {
                    let apart = |(x, c): (&T, &f32)| (f64::from(x.to_f32()) * factors[i] - f64::from(*c)).powi(2);
                    w.row(i).iter().zip(centroid(i)).map(apart).sum()
                };
                Ok((0..w.rows()).into_par_iter().map(one).collect())
            },
            gpu => {
                let rows = crate::gpu::rows::Rows::all(gpu, OP, w)?;
                let factors = self.factors(&rows.host_squares)?;
                let (labels, centroids) = (&clustering.labels, clustering.centroids.as_ref());
                crate::gpu::cluster::row_distances::<_, T>(gpu, OP, &rows, &factors, labels, centroids)
            }
        )
    }

    /// What makes rows points of the space, by their squared norms.
    fn factors(&self, squares: &[f64]) -> Result<Vec<f64>> {
        if self.desc.space != Space::Direction {
            return Ok(vec![1.0; squares.len()]);
        }
        if let Some(i) = squares.iter().position(|&square| square == 0.0) {
            return Err(Error::operand(OP, "w", format!("has an all-zero row {i}, which has no direction")));
        }
        Ok(squares.iter().map(|square| 1.0 / square.sqrt()).collect())
    }

    fn pivots<T: Elem>(&self, w: MatRef<'_, T>, groups: &Groups, tier: Tier) -> Result<Skeleton> {
        let rank = self.desc.rank;
        let desc = qr::Desc { cols: w.cols(), rank, tier, seed: self.desc.seed };
        let factors = qr::Plan::new(&self.device, desc)?.run(w, groups, &Stop::default())?;
        let mut skeleton = Skeleton { rows: Vec::new(), rank_reached: Vec::new() };
        for (g, factor) in factors.iter().enumerate() {
            let rows = groups.group(g);
            let mut taken = vec![false; rows.len()];
            for &p in &factor.jpvt {
                taken[p as usize] = true;
                skeleton.rows.push(rows[p as usize]);
            }
            let spare = rows.iter().zip(&taken).filter(|&(_, &taken)| !taken).map(|(&row, _)| row);
            skeleton.rows.extend(spare.take(rank - factor.jpvt.len()));
            skeleton.rank_reached.push(factor.jpvt.len());
        }
        Ok(skeleton)
    }
}

/// The `count` rows with the smallest scores, smallest first; ties to the lowest row number.
fn smallest(rows: &[u32], scores: &[f64], count: usize) -> Vec<u32> {
    let mut rows = rows.to_vec();
    rows.sort_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]).then(a.cmp(&b)));
    rows.truncate(count);
    rows
}

/// A skeleton of clusters whose rule has no notion of rank.
fn full(rows: Vec<Vec<u32>>, rank: usize) -> Skeleton {
    Skeleton { rank_reached: vec![rank; rows.len()], rows: rows.concat() }
}
