//! Seeded randomness: one ChaCha stream per use for set-up, and a counter-based generator for dropout masks, which any
//! backend redraws in its backward from the same seed and position.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is used for: two uses of one seed never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Use {
    Seeding = 1,
    Sketch = 2,
    Selection = 3,
    Gate = 4,
    SharedMatrix = 5,
}

/// A reproducible stream of numbers: the same seed, use and name give the same numbers on every machine.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, what: Use) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(what as u64);
        Self(rng)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in 0..n by rejection, so without bias. `n` must not be 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        let reject = n.wrapping_neg() % n; // 2^64 mod n numbers at the bottom would be drawn once too often
        loop {
            let x = self.next_u64();
            if x >= reject {
                return x % n;
            }
        }
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// `count` distinct members of `0..n` in random order (a partial Fisher–Yates shuffle).
    pub(crate) fn sample(&mut self, n: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        for i in 0..count.min(n) {
            all.swap(i, i + self.below((n - i) as u64) as usize);
        }
        all.truncate(count);
        all
    }
}

/// Philox4x32-10 (Salmon et al., SC'11): four random words from a 128-bit counter and a 64-bit key.
#[inline]
pub(crate) fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let a = u64::from(0xD251_1F53u32) * u64::from(c[0]);
        let b = u64::from(0xCD9E_8D57u32) * u64::from(c[2]);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_known_answers_of_random123() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn samples_are_distinct_and_depend_on_the_use() {
        let mut picked = Stream::new(7, Use::Selection).sample(50, 20);
        assert_ne!(picked, Stream::new(7, Use::Sketch).sample(50, 20));
        assert_eq!(picked, Stream::new(7, Use::Selection).sample(50, 20));
        picked.sort_unstable();
        picked.dedup();
        assert_eq!(picked.len(), 20);
    }

    #[test]
    fn normals_have_the_first_two_moments() {
        let mut stream = Stream::new(1, Use::Gate);
        let draws: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 5.0 / (draws.len() as f64).sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
