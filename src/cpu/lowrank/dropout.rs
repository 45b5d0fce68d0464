//! The counter-based mask of [`Dropout`]: any backend draws the same one from the same seed and position.

use crate::lowrank::Dropout;
use crate::random::philox;

/// Writes the factors of row `token` of `X`: 0 for a dropped entry, `1/(1 − p)` for a kept one.
pub(crate) fn fill(dropout: &Dropout, token: u64, mask: &mut [f32]) {
    let token = token.wrapping_add(dropout.offset);
    let key = [dropout.seed as u32, (dropout.seed >> 32) as u32];
    let threshold = dropout.threshold();
    let kept = dropout.kept_scale();
    for (block, mask) in mask.chunks_mut(4).enumerate() {
        let words = philox([token as u32, (token >> 32) as u32, block as u32, 0], key);
        for (factor, word) in mask.iter_mut().zip(words) {
            *factor = if u64::from(word) < threshold { 0.0 } else { kept };
        }
    }
}
