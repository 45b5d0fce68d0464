//! How points and centroids lie on the device, and what of them fits a block of `kernels/cluster.cu`.

use crate::gpu::variants::{Element, Entry, cluster as tile};

/// Columns as the kernels store them: whole vectors, whose quads of floats lie as `[quads of a vector, vectors]`.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Elements of a vector.
    pub vector: usize,
    /// Vectors of a row.
    pub vectors: usize,
}

impl Layout {
    pub fn new(element: Element, cols: usize) -> Self {
        let vector = element.vector() as usize;
        Self { vector, vectors: cols.div_ceil(vector) }
    }

    /// Floats of a row.
    pub fn columns(self) -> usize {
        self.vector * self.vectors
    }

    /// Where a column lies.
    pub fn place(self, column: usize) -> usize {
        let (vector, element) = (column / self.vector, column % self.vector);
        (element / 4 * self.vectors + vector) * 4 + element % 4
    }
}

/// How a step runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// All in one kernel, which reads `W` once.
    Fused(&'static Entry, u32),
    /// Labels, then sums.
    Split,
}

/// Bytes of shared memory that a kernel has besides what the launch gives it: points and labels.
const STEP_STATIC: usize = 20 * tile::MAX_ROWS as usize;
/// The same of scoring, with dots and totals.
const SCORE_STATIC: usize = 16 * tile::MAX_ROWS as usize
    + 4 * (tile::SCORE_WARPS * tile::TILE_ROWS * 4 * ((tile::SCORED / 4) | 1)) as usize
    + 4 * (tile::MAX_ROWS * (tile::SCORED + 1)) as usize;

impl Shape {
    pub fn of(layout: Layout, clusters: usize, limit: u32) -> Self {
        let threads = 32 * tile::STEP_WARPS as usize;
        let entry = match layout.vectors {
            vectors if vectors <= threads => &tile::STEP,
            vectors if vectors <= 2 * threads => &tile::STEP_WIDE,
            _ => return Self::Split,
        };
        let pitch = 4 * (clusters.div_ceil(4) | 1);
        let dots = (tile::STEP_WARPS * tile::TILE_ROWS) as usize * pitch;
        let bytes = 4 * ((2 * clusters + 1) * layout.columns() + dots + clusters);
        if bytes + STEP_STATIC <= limit as usize { Self::Fused(entry, bytes as u32) } else { Self::Split }
    }
}

/// Vectors that scoring has in shared memory of each centroid of a pass, and bytes of that: as many as fit, in whole warps.
pub(super) fn score_chunk(layout: Layout, clusters: usize, limit: u32) -> (u32, u32) {
    let of_a_vector = 4 * layout.vector * clusters.min(tile::SCORED as usize);
    let fit = (limit as usize).saturating_sub(SCORE_STATIC) / of_a_vector / 32 * 32;
    let chunk = fit.clamp(32, 32 * tile::SCORE_WARPS as usize).min(layout.vectors);
    (chunk as u32, (chunk * of_a_vector) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 227 << 10;

    fn shape(element: Element, cols: usize, clusters: usize) -> &'static str {
        match Shape::of(Layout::new(element, cols), clusters, LIMIT) {
            Shape::Fused(entry, _) => entry.name,
            Shape::Split => "split",
        }
    }

    #[test]
    fn steps_are_fused_where_the_header_says() {
        assert_eq!(shape(Element::BF16, 4096, 4), "lloyd_step");
        assert_eq!(shape(Element::BF16, 4097, 4), "lloyd_step_wide");
        assert_eq!([6352, 6353].map(|cols| shape(Element::F16, cols, 4)), ["lloyd_step_wide", "split"]);
        assert_eq!([2048, 2049].map(|cols| shape(Element::F32, cols, 4)), ["lloyd_step", "lloyd_step_wide"]);
        assert_eq!([4096, 4097].map(|cols| shape(Element::F32, cols, 4)), ["lloyd_step_wide", "split"]);
        assert_eq!(shape(Element::BF16, 4096, 16), "split");
    }

    #[test]
    fn every_column_has_a_place_of_its_own() {
        for (element, cols) in [(Element::F32, 13), (Element::F16, 8), (Element::BF16, 77)] {
            let layout = Layout::new(element, cols);
            let mut places: Vec<usize> = (0..layout.columns()).map(|column| layout.place(column)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..cols.next_multiple_of(layout.vector)), "{element:?}");
        }
        assert_eq!(Layout::new(Element::F16, 24).place(13), 17, "the second quad of the second of three vectors");
    }

    #[test]
    fn scoring_fits_shared_memory_in_whole_warps() {
        for (cols, clusters) in [(3, 1), (4096, 4), (14336, 16), (14336, 300)] {
            let layout = Layout::new(Element::BF16, cols);
            for limit in [99 << 10, 163 << 10, LIMIT] {
                let (chunk, shared) = score_chunk(layout, clusters, limit);
                assert!(chunk.is_multiple_of(32) || chunk as usize == layout.vectors);
                assert!(shared as usize + SCORE_STATIC <= limit as usize);
            }
        }
    }
}
