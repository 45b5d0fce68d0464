//! Interpolation coefficients on a device: `kernels/interp.cu`.

use super::variants::{Family, interp as tile};
use super::{Gpu, Grid, Kernel, blocks};
use crate::error::{Error, Result};
use crate::interp::OP;
use crate::mat::{self, Mat};
use crate::qr::Factor;

/// `Group` of `interp.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Group {
    r: u64,
    panels: u64,
    jpvt: u64,
    t: u64,
    c: u32,
    j: u32,
    columns: u32,
    unused: u32,
}

/// `Tile` of `interp.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Tile {
    group: u32,
    first: u32,
}

/// `Shape` of `interp.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Shape {
    tiles: u64,
}

const _: () = assert!(size_of::<Group>() == 48 && size_of::<Tile>() == 8 && size_of::<Shape>() == tile::SCALARS);

const PANEL: usize = tile::PANEL as usize;

/// Dynamic shared memory that leaves room for several blocks on a multiprocessor.
const EASY: usize = 36 << 10;

/// Columns of a block: as many as share a multiprocessor with other blocks, but a whole warp's where they fit at all.
fn columns(j: usize, limit: usize) -> Option<usize> {
    let fits = |&columns: &usize| shared(columns, j) <= if columns > 32 { EASY.min(limit) } else { limit };
    std::iter::successors(Some(tile::THREADS as usize), |columns| Some(columns / 2))
        .take_while(|&columns| columns > 0)
        .find(fits)
}

/// Bytes of dynamic shared memory.
fn shared(columns: usize, j: usize) -> usize {
    columns.saturating_mul(j | 1).saturating_mul(size_of::<f64>())
}

/// R₁₁ as the kernel takes it: panels of rows, the last first, padded by an identity.
fn panels(factor: &Factor, out: &mut Vec<f64>) {
    let j = factor.jpvt.len();
    let padded = j.next_multiple_of(PANEL);
    for a in (0..padded).step_by(PANEL).rev() {
        for b in a..padded {
            out.extend((a..a + PANEL).map(|row| match factor.jpvt.get(b) {
                Some(&p) if row < j => factor.r.row(row)[p as usize],
                _ => f64::from(u8::from(row == b)),
            }));
        }
    }
}

/// The operands of a launch, as they grow.
#[derive(Default)]
struct Batch {
    groups: Vec<Group>,
    tiles: Vec<Tile>,
    panels: Vec<f64>,
    jpvt: Vec<u32>,
    /// Elements of all coefficients.
    len: usize,
    /// Bytes of dynamic shared memory.
    shared: usize,
}

impl Batch {
    /// Adds a factor with at least one pivot, whose R is at this address.
    fn push(&mut self, factor: &Factor, r: u64, limit: usize) -> Result<()> {
        let (j, c) = factor.r.shape();
        let too_large = || Error::unsupported(OP, format!("no kernel for {j} pivots of {c} rows on this device"));
        // Room for a block of shared memory beside the chunk of R₁₁.
        let fixed = tile::CHUNK as usize * PANEL * size_of::<f64>();
        let columns = columns(j, limit.saturating_sub(fixed)).ok_or_else(too_large)?;
        let (wide, group) = (u32::try_from(c).map_err(|_| too_large())?, self.groups.len() as u32);
        self.groups.push(Group {
            r,
            panels: self.panels.len() as u64,
            jpvt: self.jpvt.len() as u64,
            t: self.len as u64,
            c: wide,
            j: j as u32,
            columns: columns as u32,
            unused: 0,
        });
        self.tiles.extend((0..wide).step_by(columns).map(|first| Tile { group, first }));
        self.shared = self.shared.max(shared(columns, j));
        panels(factor, &mut self.panels);
        self.jpvt.extend(&factor.jpvt);
        self.len = self.len.saturating_add(c.saturating_mul(j));
        Ok(())
    }
}

/// Coefficients `T [c, j]` of every factorisation, all in one launch. The factors are checked.
///
/// # Errors
/// [`Error::Unsupported`] for more pivots than doubles fit the device's shared memory; what [`Gpu`] refuses.
pub(crate) fn coeffs<G: Gpu>(gpu: &G, factors: &[&Factor]) -> Result<Vec<Mat<f64>>> {
    let mut batch = Batch::default();
    let mut kept = Vec::new(); // what the addresses lie in
    for factor in factors.iter().filter(|factor| !factor.jpvt.is_empty()) {
        let r = gpu.upload(OP, "r", factor.r.data())?;
        batch.push(factor, gpu.address(&r), gpu.shared_limit() as usize)?;
        kept.push(r);
    }
    let mut t: Vec<f64> = mat::zeroed("coefficients", batch.len)?;
    if !batch.tiles.is_empty() {
        let groups = gpu.upload(OP, "groups", &batch.groups)?;
        let tiles = gpu.upload(OP, "tiles", &batch.tiles)?;
        let panels = gpu.upload(OP, "panels", &batch.panels)?;
        let jpvt = gpu.upload(OP, "jpvt", &batch.jpvt)?;
        let mut out = gpu.allocate::<f64>(OP, "t", batch.len)?;
        let kernel = Kernel::of(OP, Family::Interp, None, &tile::COEFFS)?;
        let grid = Grid { blocks: blocks(OP, batch.tiles.len())?, shared: batch.shared as u32 };
        let shape = Shape { tiles: batch.tiles.len() as u64 };
        let inputs = [&groups, &tiles, &panels, &jpvt];
        gpu.launch(&kernel, grid, &inputs, &mut [&mut out], bytemuck::bytes_of(&shape))?;
        gpu.download(OP, &out, &mut t)?;
    }
    let mut rest = t.as_slice();
    let one = |factor: &&Factor| {
        let (j, c) = factor.r.shape();
        let (own, left) = rest.split_at(c * j);
        rest = left;
        Mat::from_vec(own.to_vec(), c, j)
    };
    factors.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_fewer_columns_of_more_pivots() {
        let limit = 227 << 10;
        let found = [1, 32, 33, 64, 256, 900, 2000, 29_000, 29_100].map(|j| columns(j, limit));
        let expected = [128, 128, 128, 64, 32, 32, 8, 1].map(Some);
        assert_eq!(found[..8], expected);
        assert_eq!(found[8], None);
    }

    #[test]
    fn panels_come_last_first_and_are_padded_by_an_identity() {
        // Two pivots, columns 2 and 0: R11 = [[5, 3], [0, 7]].
        let r = Mat::from_vec(vec![3.0, 9.0, 5.0, 7.0, 9.0, 0.0], 2, 3).unwrap();
        let mut out = Vec::new();
        panels(&Factor { jpvt: vec![2, 0], r, info: crate::qr::Info::default() }, &mut out);
        let mut expected = Mat::zeros(PANEL, PANEL).unwrap();
        (0..PANEL).for_each(|i| expected.row_mut(i)[i] = 1.0);
        (expected.row_mut(0)[0], expected.row_mut(1)[0], expected.row_mut(1)[1]) = (5.0, 3.0, 7.0);
        assert_eq!(out, expected.data());
    }
}
