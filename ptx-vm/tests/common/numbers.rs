//! Numbers for tests: repeatable random ones, distances in units of the last place, error bounds.

/// A stream of random numbers, the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `limit`, without it.
    pub fn below(&mut self, limit: u32) -> u32 {
        (((self.next() >> 32) * u64::from(limit)) >> 32) as u32
    }

    /// In [-1, 1), with all bits of the mantissa in use.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn unit_f64(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn words(&mut self, len: usize) -> Vec<u32> {
        (0..len).map(|_| self.next() as u32).collect()
    }

    pub fn units(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.unit()).collect()
    }
}

/// Unit roundoff of f32.
pub const U32: f64 = 1.0 / (1u64 << 24) as f64;

/// The classical bound on n rounding errors of f32 in a row: |result − exact| ≤ γ(n) · Σ |terms|, in whatever order the
/// terms are added.
pub fn gamma(n: usize) -> f64 {
    let nu = n as f64 * U32;
    nu / (1.0 - nu)
}

/// How many f32 lie between two, counting signed zeros as one; 0 for two NaN, the most possible for a NaN and a number.
pub fn ulps(a: f32, b: f32) -> u32 {
    // The order of bits is the order of numbers once negative ones are turned round.
    let ordered = |x: f32| {
        let bits = i64::from(x.to_bits() & 0x7fff_ffff);
        if x.is_sign_negative() { -bits } else { bits }
    };
    match (a.is_nan(), b.is_nan()) {
        (true, true) => 0,
        (false, false) => ordered(a).abs_diff(ordered(b)) as u32,
        _ => u32::MAX,
    }
}

/// Panics at the first element that is farther from the definition than its bound.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], exact: impl Fn(usize) -> f64, bound: impl Fn(usize) -> f64) {
    for (i, value) in found.iter().enumerate() {
        let (exact, bound) = (exact(i), bound(i));
        let error = (f64::from(*value) - exact).abs();
        // Written so that a NaN fails.
        assert!(error <= bound, "{what}, element {i}: {value:e} is {error:e} from {exact:e}, allowed {bound:e}");
    }
}
