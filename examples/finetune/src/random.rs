//! Seeded randomness: one ChaCha stream for every use of a seed, so that no two uses share numbers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Use {
    /// Which documents are held out.
    Split = 1,
    /// The order of the training documents.
    Order = 2,
    /// How the head starts.
    Head = 3,
    /// How LoRA's A starts; the module's number is added.
    Lora = 1 << 32,
}

/// A reproducible stream of numbers.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `seed` for one use.
    pub fn new(seed: u64, what: Use) -> Self {
        Self::numbered(seed, what, 0)
    }

    /// The same for one of many of a kind.
    pub fn numbered(seed: u64, what: Use, number: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(what as u64 + u64::from(number));
        Self(rng)
    }

    /// Uniform in [-bound, bound).
    pub fn uniform(&mut self, bound: f64) -> f32 {
        let unit = (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        (bound * (2.0 * unit - 1.0)) as f32
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in 0..items.len() {
            let left = (items.len() - i) as u64;
            items.swap(i, i + self.below(left) as usize);
        }
    }

    /// Uniform in 0..n by rejection, so without bias; n is not 0.
    fn below(&mut self, n: u64) -> u64 {
        let reject = n.wrapping_neg() % n;
        loop {
            let x = self.0.next_u64();
            if x >= reject {
                return x % n;
            }
        }
    }
}
