//! k-means++ seeding on a device, all rounds in its queue: no seed waits for the host.

use super::points::Points;
use crate::cluster::OP;
use crate::cpu::cluster::seeding::draws;
use crate::error::Result;
use crate::gpu::variants::points as tile;
use crate::gpu::{Gpu, blocks};
use crate::mat::zeroed;

/// `Round` of `points.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Round {
    pub count: u64,
    pub dim: u64,
    pub round: u64,
}

const _: () = assert!(size_of::<Round>() == tile::ROUND);

/// Seeds on the device.
pub(super) struct Seeds<G: Gpu> {
    /// `[k, dim]` in `f32`.
    pub centroids: G::Buffer,
    /// `[k]` numbers of points, 32 bits, in the order in which they were drawn: what the draw is tested by.
    #[cfg_attr(not(all(test, feature = "vm")), allow(dead_code))]
    pub points: G::Buffer,
}

/// `k` points as centroids, `[k, dim]` in `f32` on the device: as `cpu::cluster::seeding`, with the same draws from the seed, so the
/// same points wherever rounding does not decide.
pub(super) fn plus_plus<G: Gpu>(gpu: &G, points: &Points<G>, k: usize, seed: u64) -> Result<G::Buffer> {
    Ok(seeds(gpu, points, k, seed)?.centroids)
}

pub(super) fn seeds<G: Gpu>(gpu: &G, points: &Points<G>, k: usize, seed: u64) -> Result<Seeds<G>> {
    let (first, uniforms) = draws(points.count, k, seed)?;
    let uniforms = gpu.upload(OP, "uniforms", &uniforms)?;
    let mut numbers: Vec<u32> = zeroed("seeds", k)?;
    numbers[0] = first;
    let mut numbers = gpu.upload(OP, "seeds", &numbers)?;
    let mut nearest: Vec<f64> = zeroed("distances", points.count)?;
    nearest.fill(f64::INFINITY);
    let mut nearest = gpu.upload(OP, "nearest", &nearest)?;
    let mut centroids = gpu.allocate::<f32>(OP, "centroids", k.saturating_mul(points.dim))?;

    let (seed, distances) = (points.kernel(&tile::SEED)?, points.kernel(&tile::NEAREST)?);
    let grid = blocks(OP, points.count.div_ceil((tile::POINT_WARPS * tile::NEAREST_POINTS) as usize))?;
    let (rows, scales) = (&points.rows.addresses, &points.scales);
    for round in 0..k {
        let round = Round { count: points.count as u64, dim: points.dim as u64, round: round as u64 };
        let scalars = bytemuck::bytes_of(&round);
        let outputs = &mut [&mut nearest, &mut numbers, &mut centroids];
        gpu.launch(&seed, 1.into(), &[rows, scales, &uniforms], outputs, scalars)?;
        if round.round + 1 < k as u64 {
            gpu.launch(&distances, grid.into(), &[rows, scales, &centroids], &mut [&mut nearest], scalars)?;
        }
    }
    Ok(Seeds { centroids, points: numbers })
}
