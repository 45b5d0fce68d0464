//! A string of bytes read as a string of decisions.
//!
//! The same generator serves property tests and fuzzers: both are good at varying bytes, and a shorter or smaller string is
//! always a simpler program, because every decision takes its simplest outcome for 0 and for bytes that are missing.

/// Decisions left to take.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices { rest: bytes }
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A number below `n` (1 to 256).
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// True in about `percent` of 100 cases.
    pub fn chance(&mut self, percent: u8) -> bool {
        usize::from(self.byte()) * 100 >= 256 * (100 - usize::from(percent))
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// 64 bits: often a value at which arithmetic goes wrong, otherwise anything.
    pub fn value(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            1,
            2,
            3,
            7,
            31,
            32,
            33,
            0x7f,
            0x80,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x7fff_ffff_ffff_ffff,
            u64::MAX,
        ];
        if self.chance(30) { self.bits() } else { self.pick(&EDGES) }
    }

    pub fn bits(&mut self) -> u64 {
        (0..8).fold(0, |bits, _| bits << 8 | u64::from(self.byte()))
    }
}

/// A stream of well-mixed numbers from a seed (SplitMix64), for data where a byte string would be too short.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Register contents: small numbers, floats of ordinary size, edges, and any bits at all.
    pub fn register(&mut self) -> u64 {
        const FLOATS: [u32; 12] = [
            0x0000_0000, // 0
            0x8000_0000, // -0
            0x3f80_0000, // 1
            0xbf80_0000, // -1
            0x7f80_0000, // infinity
            0xff80_0000, // -infinity
            0x7fc0_0001, // NaN
            0x0000_0001, // least subnormal
            0x807f_ffff, // greatest subnormal, negative
            0x0080_0000, // least normal
            0x7f7f_ffff, // greatest
            0x4b80_0001, // beyond 2^24
        ];
        let bits = self.next();
        match bits >> 61 {
            0 => bits & 7,
            1 => (bits & 7).wrapping_neg(),
            2 => u64::from(FLOATS[(bits % 12) as usize]) << 32 | u64::from(FLOATS[(bits >> 8) as usize % 12]),
            3 | 4 => u64::from(((bits & 0xffff) as f32 / 64.0 - 500.0).to_bits()),
            5 => 1 << (bits & 63),
            _ => self.next(),
        }
    }
}
