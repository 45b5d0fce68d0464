//! The values that operands take: edges, crossed with each other, and seeded random bits.

/// splitmix64: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Noise in the bits from `bits` up, zeros below; none above a predicate, which is 0 or 1 by contract.
    pub fn above(&mut self, bits: u32) -> u64 {
        match bits {
            1 | 64 => 0,
            _ => self.bits() << bits,
        }
    }
}

/// What one operand ranges over.
pub struct Domain {
    /// Width of its type; 1 for a predicate.
    pub bits: u32,
    /// Values that are crossed with every other operand's.
    pub edges: Vec<u64>,
    /// Makes a random value out of random bits.
    pub shape: fn(u64, &[u64]) -> u64,
}

impl Domain {
    /// A random value: half of the time uniform bits, else an edge value or a neighbour of one.
    pub fn draw(&self, random: &mut Random) -> u64 {
        let mask = u64::MAX >> (64 - self.bits);
        (self.shape)(random.bits(), &self.edges) & mask
    }
}

fn any_bits(bits: u64, edges: &[u64]) -> u64 {
    let noise = bits.rotate_left(29).wrapping_mul(0xd134_2543_de82_ef95) ^ bits >> 17;
    let edge = edges[(bits >> 8) as usize % edges.len()];
    match bits % 8 {
        0..4 => noise,
        4 => edge.wrapping_add(bits >> 61),
        5 => edge.wrapping_sub(bits >> 61),
        6 => edge ^ 1 << (bits >> 58),
        _ => noise >> (bits >> 58),
    }
}

/// Integers of `bits` bits: around zero, around the extremes, single bits and patterns.
pub fn integers(bits: u32) -> Domain {
    let mask = u64::MAX >> (64 - bits);
    let top = 1u64 << (bits - 1);
    let half = 1u64 << (bits / 2);
    let edges = [0, 1, 2, 3, 7, half - 1, half, half + 1, top - 2, top - 1, top, top + 1, mask - 1, mask];
    let patterns = [0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
    let negated = [2u64, 3, 7, half].map(u64::wrapping_neg);
    let mut edges: Vec<u64> = edges.into_iter().chain(patterns).chain(negated).map(|v| v & mask).collect();
    edges.sort_unstable();
    edges.dedup();
    Domain { bits, edges, shape: any_bits }
}

/// Shift counts and bit positions: everything near the widths, and beyond any width.
pub fn counts() -> Domain {
    let near = [15, 16, 17, 23, 24, 30, 31, 32, 33, 47, 48, 62, 63, 64, 65, 127, 128, 255, 256, 257];
    let far = [0x8000_0000, 0xffff_ffff, 0x0001_0000, 0x0000_ff01, 0x20_0000];
    let edges = (0..9).chain(near).chain(far).collect();
    Domain {
        bits: 32,
        edges,
        shape: |bits, edges| if bits % 3 == 0 { any_bits(bits, edges) } else { (bits >> 8) % 72 },
    }
}

/// A predicate.
pub fn predicates() -> Domain {
    Domain { bits: 1, edges: vec![0, 1], shape: |bits, _| bits >> 40 }
}

/// A binary floating-point format in `1 + exponent + fraction` bits: zeros, subnormals, normals, infinities, NaNs, halfway
/// cases, both signs.
pub fn floats(exponent: u32, fraction: u32) -> Domain {
    let bits = 1 + exponent + fraction;
    let one = ((1u64 << (exponent - 1)) - 1) << fraction;
    let unit = 1u64 << fraction; // of the exponent field
    let infinity = ((1 << exponent) - 1) << fraction;
    let quiet = infinity | unit >> 1;
    let magnitudes = [
        0,
        1,
        2,
        unit >> 1,
        unit - 1, // largest subnormal
        unit,     // smallest normal
        unit + 1,
        // Its product with the next but one below is just below the smallest normal.
        unit + (unit >> (fraction / 2 + 2)),
        one - (unit >> (fraction / 2 + 1)),
        2 * unit,
        one - (u64::from(fraction) + 1) * unit, // half an ulp of one
        one - u64::from(fraction) * unit,
        one - unit,
        one - 1,
        one,
        one + 1,
        one + unit / 2,
        one + unit,
        one + unit * 3 / 2,
        one + u64::from(fraction) * unit,
        one + unit * (u64::from(fraction) + 1) + 1,
        infinity - unit,
        infinity - 1, // largest finite
        infinity,
        infinity + 1, // signalling
        quiet,
        quiet | 5,
    ];
    let sign = 1u64 << (bits - 1);
    let edges = magnitudes.into_iter().flat_map(|m| [m, m | sign]).collect();
    Domain { bits, edges, shape: any_bits }
}
