//! How many tokens a block takes, and how its shared memory is laid out.

use super::super::variants::{Element, lowrank as tile};
use crate::error::{Error, Result};
use crate::lowrank::{Desc, FORWARD};

/// The end of `Shape` of `lowrank.cu`: the parts of shared memory by their first byte, and what their sizes follow from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Layout {
    block_tokens: u32,
    holds: u32,
    tile_pitch: u32,
    term_rows: u32,
    term_stride: u32,
    places: u32,
    gates: u32,
    partials: u32,
    stash: u32,
    mask: u32,
    terms: u32,
    tile: u32,
}

/// Tokens of a block: more read B less often, and 16 fill a tensor-core tile.
const MOST_TOKENS: usize = 16;
/// Sub-rows that share a fragment of B: two tiles of 16.
const MOST_SUB_ROWS: usize = 32;

impl Layout {
    /// The most tokens whose Y0 stays in shared memory, as long as a tensor-core tile is full; else the most that fit
    /// without Y0. It depends on the problem and the device, never on the number of tokens.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where not even one token fits.
    pub fn choose(desc: &Desc, element: Element, drops: bool, limit: usize) -> Result<Self> {
        let most = most_tokens(desc);
        let halves = halves(desc);
        let held = halves.clone().take_while(move |tokens| *tokens == most || tokens * desc.split >= MOST_TOKENS);
        let fitting = |(tokens, holds)| Self::of(desc, element, drops, tokens, holds, limit);
        let tried = held.map(|tokens| (tokens, true)).chain(halves.map(|tokens| (tokens, false)));
        tried.map(fitting).find_map(std::result::Result::ok).map_or_else(
            || {
                let needed = Self::of(desc, element, drops, 1, false, limit).map_or_else(|bytes| bytes, |_| limit);
                let Desc { rank, components, .. } = *desc;
                let reason = format!(
                    "rank {rank} with {components} components needs {needed} bytes of shared memory a block, the device \
                     has {limit}"
                );
                Err(Error::unsupported(FORWARD, reason))
            },
            Ok,
        )
    }

    /// The layout for so many tokens, or, as an error, the bytes it would need beyond `limit`.
    pub fn of(
        desc: &Desc,
        element: Element,
        drops: bool,
        tokens: usize,
        holds: bool,
        limit: usize,
    ) -> std::result::Result<Self, usize> {
        let Desc { rows, rank, components, split, gate, .. } = *desc;
        let (warps, width, bytes) = (tile::WARPS as usize, components.saturating_mul(rank), element_bytes(element));
        let sub_rows = tokens.saturating_mul(split);
        let term_rows = if sub_rows <= 16 { 16 } else { sub_rows.next_multiple_of(MOST_SUB_ROWS) };
        // An odd multiple of 16 bytes (of 32 for f32): rows that are read together lie in different banks.
        let tile_pitch = 8 * ((rows / split).div_ceil(8) | 1);
        let term_stride = (term_rows / 16).saturating_mul((rank / split).div_ceil(16)).saturating_mul(tile::STEP);
        let mut end = term_rows.saturating_mul(16);
        let mut place = |bytes: usize| {
            let start = end;
            end = end.saturating_add(bytes.saturating_add(15) / 16 * 16);
            start as u32 // used only where the end is within the limit
        };
        let product = |factors: [usize; 3]| factors.into_iter().fold(1, usize::saturating_mul);
        let mut layout = Self {
            block_tokens: tokens as u32,
            holds: holds.into(),
            tile_pitch: tile_pitch as u32,
            term_rows: term_rows as u32,
            term_stride: term_stride as u32,
            places: place(width.saturating_mul(4)),
            gates: place(product([warps, components, 4])),
            partials: place(if gate.reads_input() { product([warps * tokens, components, 4]) } else { 0 }),
            stash: place(product([warps, width, bytes])),
            mask: place(if drops { warps.saturating_mul(width.div_ceil(4)) } else { 0 }),
            terms: place(product([tile::terms(element), 2, term_stride])),
            tile: 0,
        };
        layout.tile = place(0);
        let end = end.saturating_add(layout.tile_bytes(sub_rows, tile_pitch, element));
        if end <= limit { Ok(layout) } else { Err(end) }
    }

    fn tile_bytes(&self, sub_rows: usize, tile_pitch: usize, element: Element) -> usize {
        let elements = if self.holds == 1 {
            sub_rows.saturating_mul(tile_pitch)
        } else {
            tile::WARPS as usize * (self.term_rows as usize).min(MOST_SUB_ROWS) * tile::stage_pitch(element)
        };
        elements.saturating_mul(element_bytes(element))
    }

    /// Whether the block's Y0 stays in shared memory.
    pub fn holds(&self) -> bool {
        self.holds == 1
    }

    /// Sub-rows of a block's terms, a multiple of 16.
    pub fn term_rows(&self) -> usize {
        self.term_rows as usize
    }

    /// Words of 32 bits of a block's terms.
    pub fn term_words(&self, element: Element) -> usize {
        tile::terms(element) * self.term_stride as usize / 2
    }

    /// Tokens of a block.
    pub fn tokens(&self) -> usize {
        self.block_tokens as usize
    }

    /// Shared memory of a block.
    pub fn bytes(&self, desc: &Desc, element: Element) -> u32 {
        let sub_rows = self.tokens() * desc.split;
        self.tile + self.tile_bytes(sub_rows, self.tile_pitch as usize, element) as u32
    }
}

/// The most tokens of a block that are worth it.
pub(super) fn most_tokens(desc: &Desc) -> usize {
    (MOST_SUB_ROWS / desc.split).clamp(1, MOST_TOKENS)
}

/// The most tokens of a block, and fewer down to one.
pub(super) fn halves(desc: &Desc) -> impl Iterator<Item = usize> + Clone {
    std::iter::successors(Some(most_tokens(desc)), |tokens| (*tokens > 1).then_some(tokens / 2))
}

const fn element_bytes(element: Element) -> usize {
    16 / element.vector() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lowrank::{Bias, DownProjection, Gate};

    const LIMIT: usize = 227 << 10;

    fn desc(rows: usize, rank: usize, components: usize, split: usize) -> Desc {
        let (gate, down, bias) = (Gate::LinearSoftmax, DownProjection::Gather, Bias::None);
        Desc { rows, cols: 64, rank, components, split, gate, down, bias }
    }

    /// (tokens, holds) of the shapes that the kernel's header speaks of.
    #[test]
    fn the_largest_tile_that_fits_is_chosen() {
        let chosen = |desc: Desc, element| {
            let layout = Layout::choose(&desc, element, true, LIMIT).unwrap();
            assert!(layout.bytes(&desc, element) as usize <= LIMIT);
            (layout.block_tokens, layout.holds)
        };
        assert_eq!(chosen(desc(4096, 32, 4, 2), Element::BF16), (16, 1));
        assert_eq!(chosen(desc(4096, 128, 4, 2), Element::F32), (8, 1));
        assert_eq!(chosen(desc(4096, 32, 4, 1), Element::F32), (16, 0), "a tile of 8 would be half empty");
        assert_eq!(chosen(desc(14336, 128, 4, 2), Element::BF16), (16, 0));
        assert_eq!(chosen(desc(12, 3, 3, 3), Element::F16), (10, 1));
        assert_eq!(chosen(desc(4000, 400, 2, 40), Element::F16), (1, 1));
        assert_eq!(chosen(desc(200_000, 1536, 4, 2), Element::F16), (8, 0), "a large rank takes fewer tokens");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_it_needs() {
        let error = Layout::choose(&desc(200_000, 20_000, 4, 1), Element::F16, true, LIMIT).unwrap_err().to_string();
        assert!(error.contains("rank 20000 with 4 components needs") && error.contains("has 232448"), "{error}");
        assert!(Layout::choose(&desc(usize::MAX / 2, usize::MAX / 8, 4, 1), Element::F32, true, LIMIT).is_err());
    }
}
