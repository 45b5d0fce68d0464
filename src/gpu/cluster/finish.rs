//! Exact means and the inertia of a partition, in `f64`.

use super::points::{Points, Shape, residuals};
use crate::cluster::OP;
use crate::error::Result;
use crate::gpu::variants::{Element, points as tile};
use crate::gpu::{Gpu, blocks};
use crate::mat::{Mat, zeroed};

/// The mean of every cluster's points, in `f64`: zero where a cluster has none. `labels` `[count]`, 32 bits, all below
/// `sizes.len()`, and `sizes` says how many points have each.
pub(super) fn means<G: Gpu>(gpu: &G, points: &Points<G>, labels: &G::Buffer, sizes: &[usize]) -> Result<Mat<f64>> {
    let mut host_labels: Vec<u32> = zeroed("labels", points.count)?;
    gpu.download(OP, labels, &mut host_labels)?;
    let chunks = Chunks::new(&host_labels, sizes)?;
    let count = chunks.starts.len() - 1;
    let order = gpu.upload(OP, "order", &chunks.order)?;
    let starts = gpu.upload(OP, "starts", &chunks.starts)?;
    let clusters = gpu.upload(OP, "clusters", &chunks.clusters)?;

    let mut partial = gpu.allocate::<f64>(OP, "partial", count.saturating_mul(points.dim))?;
    let tiles = points.dim.div_ceil(tile::tile_columns(Element::from(points.dtype)));
    let grid = blocks(OP, count.saturating_mul(tiles))?;
    let shape = Shape { count: count as u64, dim: points.dim as u64 };
    let inputs = [&points.rows.addresses, &points.factors, &order, &starts];
    let kernel = points.kernel(&tile::SUMS)?;
    gpu.launch(&kernel, grid.into(), &inputs, &mut [&mut partial], bytemuck::bytes_of(&shape))?;

    let mut out: Mat<f64> = Mat::zeros(sizes.len(), points.dim)?;
    let mut means = gpu.allocate::<f64>(OP, "means", out.data().len())?;
    let grid = blocks(OP, sizes.len().saturating_mul(points.dim.div_ceil(tile::MEAN_THREADS as usize)))?;
    let shape = Shape { count: sizes.len() as u64, dim: points.dim as u64 };
    let inputs = [&partial, &starts, &clusters];
    let kernel = points.kernel(&tile::MEANS)?;
    gpu.launch(&kernel, grid.into(), &inputs, &mut [&mut means], bytemuck::bytes_of(&shape))?;
    gpu.download(OP, &means, out.data_mut())?;
    Ok(out)
}

/// `Σ_p ‖x_p − c_label(p)‖²` for centroids in `f64`.
pub(super) fn inertia<G: Gpu>(gpu: &G, points: &Points<G>, labels: &G::Buffer, centroids: &Mat<f64>) -> Result<f64> {
    let kind = (OP, points.dtype);
    Ok(residuals(gpu, kind, &points.rows, &points.factors, labels, centroids)?.iter().sum())
}

/// The points by cluster, in chunks of one cluster each: sums of chunks then take no more room for more clusters, and a point is
/// read once.
struct Chunks {
    /// Points by cluster, lowest first.
    order: Vec<u32>,
    /// Where in `order` each chunk starts, and its end.
    starts: Vec<u32>,
    /// Where in `starts` the chunks of each cluster start, and the end.
    clusters: Vec<u32>,
}

impl Chunks {
    fn new(labels: &[u32], sizes: &[usize]) -> Result<Self> {
        let mut order: Vec<u32> = zeroed("points by cluster", labels.len())?;
        let (mut starts, mut clusters, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut end = 0;
        for &size in sizes {
            places.push(end);
            clusters.push(starts.len() as u32);
            starts.extend((end..end + size).step_by(tile::CHUNK_POINTS as usize).map(|start| start as u32));
            end += size;
        }
        clusters.push(starts.len() as u32);
        starts.push(end as u32);
        for (p, &label) in labels.iter().enumerate() {
            let place = &mut places[label as usize];
            order[*place] = p as u32;
            *place += 1;
        }
        Ok(Self { order, starts, clusters })
    }
}
