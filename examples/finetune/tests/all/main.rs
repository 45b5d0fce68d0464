//! Tests on a model of two small layers with random weights, made here: nothing is downloaded.

mod adamw;
mod cost;
mod data;
mod fused;
mod lora;
mod method;
mod model;
mod pretrained;
mod report;
mod resume;
mod tiny;

use candle_core::{Device, Result, Tensor};

/// Reproducible numbers in [-1, 1) of no pattern (splitmix64).
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(shape: &[usize], seed: u64) -> Result<Tensor> {
    Tensor::from_vec(numbers(shape.iter().product(), seed), shape, &Device::Cpu)
}

/// Fails unless all of `found` is within `bound` of `expected`.
fn assert_close(what: &str, expected: &Tensor, found: &Tensor, bound: f32) {
    assert_eq!(expected.dims(), found.dims(), "{what}");
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (at, (expected, found)) in values(expected).into_iter().zip(values(found)).enumerate() {
        assert!((expected - found).abs() <= bound, "{what}: expected {expected} at {at}, found {found}");
    }
}
