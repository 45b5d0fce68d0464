//! State beside memory, one cell for each group of bytes that are always accessed together.

/// Bytes of a page.
const PAGE: u64 = 256;
/// The widest cell: 16 bytes.
const WIDEST: u32 = 4;

/// Cells for a range of bytes. A page starts with cells as wide as its first access and splits them when a narrower access
/// comes, so what is only ever touched 16 bytes at a time costs one cell per 16 bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow<S> {
    pages: Vec<Page<S>>,
}

#[derive(Clone, Debug, Default)]
struct Page<S> {
    /// Logarithm of the bytes of a cell.
    shift: u32,
    /// None before the first access.
    cells: Vec<S>,
}

impl<S: Clone + Default> Shadow<S> {
    pub fn new(bytes: u64) -> Shadow<S> {
        let mut shadow = Shadow { pages: Vec::new() };
        shadow.renew(bytes);
        shadow
    }

    /// Makes it new, for so many bytes, in the memory that it has.
    pub fn renew(&mut self, bytes: u64) {
        self.pages.iter_mut().for_each(|page| page.cells.clear());
        self.pages.resize(bytes.div_ceil(PAGE) as usize, Page::default());
    }

    /// Calls `visit` with each cell of these bytes and its first byte's offset. Bytes past the end have no cells.
    #[inline(always)]
    pub fn touch(&mut self, offset: u64, size: u32, mut visit: impl FnMut(&mut S, u64)) {
        if let Some(cell) = self.cell(offset, size) {
            return visit(cell, offset);
        }
        self.touch_cells(offset, size, visit);
    }

    /// The one cell of exactly these bytes, if there is one.
    #[inline(always)]
    pub fn cell(&mut self, offset: u64, size: u32) -> Option<&mut S> {
        let page = self.pages.get_mut((offset / PAGE) as usize)?;
        let whole = 1 << page.shift == size && offset & u64::from(size - 1) == 0;
        if whole { page.cells.get_mut(((offset % PAGE) >> page.shift) as usize) } else { None }
    }

    fn touch_cells(&mut self, offset: u64, size: u32, mut visit: impl FnMut(&mut S, u64)) {
        let (mut from, mut rest) = (offset, u64::from(size));
        while rest != 0 {
            let part = rest.min(PAGE - from % PAGE);
            let Some(page) = self.pages.get_mut((from / PAGE) as usize) else { return };
            let grain = (from | part).trailing_zeros().min(WIDEST);
            if page.cells.is_empty() {
                page.start(grain);
            } else if page.shift > grain {
                page.split(grain);
            }
            let first = ((from % PAGE) >> page.shift) as usize;
            let count = (part >> page.shift) as usize;
            for (i, cell) in page.cells[first..first + count].iter_mut().enumerate() {
                visit(cell, from + ((i as u64) << page.shift));
            }
            from += part;
            rest -= part;
        }
    }
}

impl<S: Clone + Default> Page<S> {
    fn start(&mut self, shift: u32) {
        self.shift = shift;
        self.cells.resize((PAGE >> shift) as usize, S::default());
    }

    #[cold]
    fn split(&mut self, shift: u32) {
        let copies = 1 << (self.shift - shift);
        self.cells = self.cells.iter().flat_map(|cell| std::iter::repeat_n(cell.clone(), copies)).collect();
        self.shift = shift;
    }
}

#[cfg(test)]
mod tests {
    use super::Shadow;

    /// Adds `mark` to every cell of the bytes and returns what was there, one (offset, value) per cell.
    fn mark(shadow: &mut Shadow<u32>, offset: u64, size: u32, mark: u32) -> Vec<(u64, u32)> {
        let mut seen = Vec::new();
        shadow.touch(offset, size, |cell, at| {
            seen.push((at, *cell));
            *cell += mark;
        });
        seen
    }

    #[test]
    fn cells_split_and_keep_what_they_held() {
        let mut shadow = Shadow::new(600);
        assert_eq!(mark(&mut shadow, 32, 16, 1), [(32, 0)]);
        assert_eq!(mark(&mut shadow, 36, 4, 10), [(36, 1)]);
        assert_eq!(mark(&mut shadow, 32, 16, 0), [(32, 1), (36, 11), (40, 1), (44, 1)]);
        assert_eq!(mark(&mut shadow, 38, 2, 100), [(38, 11)]);
        assert_eq!(mark(&mut shadow, 36, 4, 0), [(36, 11), (38, 111)]);
        assert_eq!(mark(&mut shadow, 256, 8, 0), [(256, 0)], "another page is as wide as its own first access");
    }

    #[test]
    fn accesses_across_pages_and_past_the_end() {
        let mut shadow = Shadow::new(512);
        assert_eq!(mark(&mut shadow, 252, 8, 1).len(), 2);
        assert_eq!(mark(&mut shadow, 254, 4, 0), [(254, 1), (256, 1)]);
        assert_eq!(mark(&mut shadow, 1 << 40, 4, 0), []);
    }

    #[test]
    fn a_renewed_one_holds_nothing() {
        let mut shadow = Shadow::new(512);
        mark(&mut shadow, 0, 4, 1);
        mark(&mut shadow, 256, 16, 1);
        for bytes in [512, 256, 1024] {
            shadow.renew(bytes);
            assert_eq!(mark(&mut shadow, 0, 16, 1), [(0, 0)], "as wide as the first access since");
            let places: Vec<u64> = (0..bytes).step_by(16).collect();
            for &place in &places[1..] {
                assert_eq!(mark(&mut shadow, place, 16, 1), [(place, 0)], "{bytes} bytes");
            }
            assert_eq!(mark(&mut shadow, bytes, 4, 1), [], "past the end of {bytes} bytes");
        }
    }
}
