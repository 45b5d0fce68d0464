//! How the backward is cut into blocks, and what lies between its kernels.

use super::super::step::ALIGN;
use crate::gpu::variants::{Element, lowrank_grad as tile};
use crate::lowrank::{Desc, Gate};

/// Parts of a module's scratch, see [`Cut::parts`].
pub(super) const PARTS: usize = 5;

/// How the tokens are cut: by their number and the problem, never by the device, so that the bits are the same on all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub tile: tile::Tile,
    /// Sub-rows of a segment of `products`, and how many segments there are.
    pub segment_rows: usize,
    pub segments: usize,
    /// Slices of m/s and of r/s.
    pub slices: usize,
    pub depth_slices: usize,
    /// Tokens of a block of `tokens` and of `linear`, and how many there are.
    pub chunk: usize,
    pub chunks: usize,
    pub linear_chunk: usize,
    pub linear_chunks: usize,
}

/// At most so many partial sums of dB and dW_g, and of the other gates' gradients.
const MOST_SEGMENTS: usize = 64;
const MOST_CHUNKS: usize = 1024;

impl Cut {
    pub fn of(desc: &Desc, tokens: usize) -> Self {
        let (part, depth) = (desc.rows / desc.split, desc.rank / desc.split);
        let tile = if depth <= tile::NARROW.depth as usize { tile::NARROW } else { tile::WIDE };
        let rows = tokens.saturating_mul(desc.split);
        // Partial sums are read and written once, 8 r/s bytes for each column, against 2 segment_rows of G in 16 bits.
        let segment_rows =
            rows.div_ceil(MOST_SEGMENTS).max(8 * depth).max(128).min(rows.max(1)).next_multiple_of(tile::TILE_ROWS);
        let chunk = tokens.div_ceil(MOST_CHUNKS).max(32);
        let linear_chunk = tokens.div_ceil(MOST_SEGMENTS).max(128);
        Self {
            tile,
            segment_rows,
            segments: rows.div_ceil(segment_rows),
            slices: part.div_ceil(tile.columns as usize),
            depth_slices: depth.div_ceil(tile.depth as usize),
            chunk,
            chunks: tokens.div_ceil(chunk),
            linear_chunk,
            linear_chunks: tokens.div_ceil(linear_chunk),
        }
    }

    /// Partial sums of the gate's gradient.
    pub fn gate_segments(&self, desc: &Desc) -> usize {
        if desc.gate.reads_input() { self.linear_chunks } else { self.chunks }
    }

    /// Where a module's parts of the scratch start, in bytes from its own start: z, dz, the partial sums of B and of the gate,
    /// dl, and how many bytes they are together.
    pub fn parts(&self, desc: &Desc, tokens: usize) -> [usize; PARTS + 1] {
        let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
        let (gate_rows, gate_cols) = gate.parameter_shape(rank, components, cols);
        let floats: [&[usize]; PARTS] = [
            &[tokens, rank],
            &[self.slices, tokens, rank],
            &[self.segments, rows / split, rank / split],
            &[self.gate_segments(desc), gate_rows, gate_cols],
            if gate.reads_input() { &[tokens, components] } else { &[0] },
        ];
        let mut starts = [0usize; PARTS + 1];
        for (i, sizes) in floats.into_iter().enumerate() {
            let bytes = sizes.iter().fold(size_of::<f32>(), |product, &size| product.saturating_mul(size));
            starts[i + 1] = starts[i].saturating_add(bytes.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX));
        }
        starts
    }

    /// Bytes of shared memory of a block of premix, products and tokens.
    pub fn shared(&self, desc: &Desc, element: Element, drops: bool) -> [usize; 3] {
        let Desc { rank, components, .. } = *desc;
        let warps = tile::WARPS as usize;
        let mask = if drops { warps.saturating_mul(components.saturating_mul(rank).div_ceil(4)) } else { 0 };
        let floats = rank.saturating_mul(2).saturating_add(gradient(desc)).saturating_add(components);
        [mask, self.tile.shared(element), floats.saturating_mul(4 * warps).saturating_add(mask)]
    }
}

/// Entries of the gate's gradient that the kernel `tokens` sums.
pub(super) fn gradient(desc: &Desc) -> usize {
    match desc.gate {
        Gate::Inner | Gate::RmsInner => desc.rank,
        Gate::Static => desc.components,
        Gate::Linear | Gate::LinearSoftmax => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lowrank::{Bias, DownProjection};

    #[test]
    fn tokens_are_cut_by_the_problem_and_partial_sums_are_few() {
        let (gate, down, bias) = (Gate::Static, DownProjection::Gather, Bias::None);
        let cut = |rank, tokens| {
            let desc = Desc { rows: 4096, cols: 1, rank, components: 4, split: 2, gate, down, bias };
            let cut = Cut::of(&desc, tokens);
            assert!(cut.segments <= MOST_SEGMENTS && cut.chunks <= MOST_CHUNKS && cut.linear_chunks <= MOST_SEGMENTS);
            (cut.segment_rows, cut.segments, cut.slices, cut.depth_slices)
        };
        assert_eq!(cut(32, 4096), (128, 64, 4, 1));
        assert_eq!(cut(128, 4096), (512, 16, 8, 1));
        assert_eq!(cut(130, 1), (16, 1, 8, 2));
        assert_eq!(cut(32, (1 << 20) + 1), (32784, 64, 4, 1));
    }
}
