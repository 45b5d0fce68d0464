//! k-means clustering of the rows (or columns) of a weight matrix, with a minimum cluster size.
//!
//! Minimises `Σ_p ‖x_p − c_label(p)‖²` by Lloyd's iteration from k-means++ or given centroids: every point to its nearest
//! centroid (ties to the lowest), every centroid to the mean of its points. Where a cluster would hold fewer than `min_size`
//! points, labels are the assignment of least cost under that bound ([`assign_min_size`]), so that every step still lowers
//! the same objective; with `min_size` 1, a cluster that lost all its points first restarts at the point farthest from its
//! own centroid, which lowers it further.
//!
//! Sources: Lloyd, *Least squares quantization in PCM*, 1982; Arthur and Vassilvitskii, *k-means++*, 2007; Dhillon and Modha,
//! *Concept decompositions*, 2001, for directions. Conventions of convergence are scikit-learn's.
//!
//! Weights of any magnitude work: distances are taken in units of a power of two near the largest entry.

use crate::cpu;
use crate::device::{Device, on_device};
use crate::elem::Elem;
use crate::error::{Error, Result, check_shape};
use crate::mat::{Mat, MatRef};
pub use crate::norms::Axis;

/// Where points are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// The points themselves, Euclidean (the paper).
    #[default]
    Full,
    /// Points scaled to unit length (spherical k-means). An all-zero point is an error.
    Direction,
    /// The points' norms alone: one dimension, solved exactly by dynamic programming.
    Norm,
}

/// The problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Desc {
    /// Rows of `W`.
    pub rows: usize,
    /// Columns of `W`.
    pub cols: usize,
    /// Whether rows or columns are the points.
    pub axis: Axis,
    /// Where points are compared.
    pub space: Space,
    /// Number of clusters `k`.
    pub clusters: usize,
    /// Fewest points a cluster may hold; at least 1.
    pub min_size: usize,
}

/// How long to iterate, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Lloyd steps at most (100).
    pub max_iterations: usize,
    /// Stop when no label changes, or when the squared movement of all centroids falls to `tolerance` times the mean
    /// variance of the coordinates (1e-4, scikit-learn's definition).
    pub tolerance: f64,
    /// Seed of k-means++.
    pub seed: u64,
    /// Starting centroids `[k, dim]` instead of k-means++. Refused for [`Space::Norm`], which needs none.
    pub start: Option<MatRef<'a, f32>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { max_iterations: 100, tolerance: 1e-4, seed: 0, start: None }
    }
}

/// A partition of the points.
#[derive(Clone, Debug)]
pub struct Clustering {
    /// Cluster of every point.
    pub labels: Vec<u32>,
    /// Centroids `[k, dim]`: the means of their members in the chosen space (unit length for directions, `dim = 1` for norms).
    pub centroids: Mat<f32>,
    /// Points per cluster, each at least `min_size`.
    pub sizes: Vec<usize>,
    /// What happened on the way.
    pub info: Info,
}

/// Numerical outcome of a clustering.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Info {
    /// Σ of squared distances of the points to their centroids, in the chosen space.
    pub inertia: f64,
    /// Lloyd steps taken.
    pub iterations: usize,
    /// Whether it stopped by itself before `max_iterations`.
    pub converged: bool,
    /// Times a cluster had lost all its points and restarted at the farthest one. Only where `min_size` is 1: a larger one
    /// fills clusters by itself.
    pub repaired: usize,
    /// Lloyd steps whose labels had to be moved to keep the minimum size.
    pub constrained: usize,
}

/// Operation name in errors.
pub(crate) const OP: &str = "cluster";

/// A checked problem on a device.
#[derive(Clone, Debug)]
pub struct Plan {
    device: Device,
    desc: Desc,
}

impl Plan {
    /// Checks the problem.
    ///
    /// # Errors
    /// [`Error::Shape`] if `W` has no row or no column; [`Error::Parameter`] if `clusters` or `min_size` is 0, or if
    /// `min_size·clusters` exceeds the number of points.
    pub fn new(device: &Device, desc: Desc) -> Result<Self> {
        if desc.rows == 0 || desc.cols == 0 {
            let found = format!("shape [{}, {}]", desc.rows, desc.cols);
            return Err(Error::shape(OP, "w", "at least one row and one column", found));
        }
        check_sizes(desc.points(), desc.clusters, desc.min_size)?;
        Ok(Self { device: device.clone(), desc })
    }

    /// Clusters `w`, `[rows, cols]`.
    ///
    /// Deterministic: the same `w` and options give the same bits, on any number of threads.
    ///
    /// # Errors
    /// [`Error::Shape`] where `w` or `start` does not fit the plan; [`Error::NonFinite`] for NaN or infinity in either;
    /// [`Error::Parameter`] for no iterations or a tolerance that is negative or NaN; [`Error::Operand`] for an all-zero
    /// point or start under [`Space::Direction`], and for any start under [`Space::Norm`]; [`Error::OutOfMemory`].
    ///
    /// # Cost
    /// With `m` points of `n` coordinates: a Lloyd step is `O(m·n·k)` and one pass over 16-bit codes of the points; around
    /// the steps lie three passes over `W`, and `k` for k-means++. Besides the result, `m·n` 16-bit codes, `m·k` floats
    /// (and as many doubles while the minimum size binds), and for columns a copy of `W`. [`Space::Norm`]: one pass and
    /// `O(k·m·log m)`.
    pub fn run<T: Elem>(&self, w: MatRef<'_, T>, options: &Options<'_>) -> Result<Clustering> {
        let desc = &self.desc;
        check_shape(OP, "w", (desc.rows, desc.cols), w.shape())?;
        if options.max_iterations == 0 {
            return Err(Error::parameter(OP, "max_iterations", "at least 1", 0));
        }
        if options.tolerance.is_nan() || options.tolerance < 0.0 {
            return Err(Error::parameter(OP, "tolerance", "0 or more", options.tolerance));
        }
        if let Some(start) = options.start {
            if desc.space == Space::Norm {
                return Err(Error::operand(OP, "start", "is not used by norms, whose clusters are found exactly"));
            }
            check_shape(OP, "start", (desc.clusters, desc.dim()), start.shape())?;
            if start.iter_rows().flatten().any(|x| !x.is_finite()) {
                return Err(cpu::cluster::non_finite("start", start));
            }
        }
        on_device!(
            &self.device,
            cpu => cpu::cluster::run(desc, w, options),
            gpu => crate::gpu::cluster::run(gpu, desc, w, options)
        )
    }
}

impl Desc {
    /// Number of points.
    pub fn points(&self) -> usize {
        match self.axis {
            Axis::Rows => self.rows,
            Axis::Cols => self.cols,
        }
    }

    /// Coordinates of a point.
    pub fn dim(&self) -> usize {
        match self.axis {
            Axis::Rows => self.cols,
            Axis::Cols => self.rows,
        }
    }
}

/// The exact assignment of least total cost under a minimum cluster size.
///
/// `distances [points, k]` are (squared) distances, or any finite costs; returns one label per point, every label at least
/// `min_size` times, minimising `Σ_p distances[p, label(p)]`. Ties go to the lowest label and the lowest point. Successive
/// cheapest paths on the `k`-node residual graph; `O(m·k)`, and `O(k³ + k²·log m)` for each unit that the cheapest
/// labels are short of.
///
/// # Errors
/// [`Error::Shape`] without points or clusters, [`Error::Parameter`] if `min_size` is 0 or `min_size·k` exceeds the points,
/// [`Error::NonFinite`] for NaN or infinity.
pub fn assign_min_size(distances: MatRef<'_, f64>, min_size: usize) -> Result<Vec<u32>> {
    let (points, k) = distances.shape();
    if points == 0 || k == 0 {
        let found = format!("shape [{points}, {k}]");
        return Err(Error::shape(OP, "distances", "at least one row and one column", found));
    }
    check_sizes(points, k, min_size)?;
    for (row, values) in distances.iter_rows().enumerate() {
        if let Some(col) = values.iter().position(|x| !x.is_finite()) {
            let (operand, value) = ("distances".to_owned(), values[col] as f32);
            return Err(Error::NonFinite { op: OP, operand, row, col, value });
        }
    }
    Ok(cpu::cluster::assign_min_size(distances, min_size))
}

fn check_sizes(points: usize, clusters: usize, min_size: usize) -> Result<()> {
    if clusters == 0 {
        return Err(Error::parameter(OP, "clusters", "at least 1", 0));
    }
    if min_size == 0 {
        return Err(Error::parameter(OP, "min_size", "at least 1", 0));
    }
    if u32::try_from(points).is_err() {
        return Err(Error::parameter(OP, "points", format!("at most {}", u32::MAX), points));
    }
    if min_size.checked_mul(clusters).is_none_or(|need| need > points) {
        let expected = format!("at most {points} points / {clusters} clusters = {}", points / clusters);
        return Err(Error::parameter(OP, "min_size", expected, min_size));
    }
    Ok(())
}
