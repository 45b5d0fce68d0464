//! What is run: layers of named models, and every operation on one of them.

mod adapter;
mod gemm;
mod setup;

use crate::arguments::Arguments;
use idlora::models::Model;
use idlora::{Device, Elem, Error};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A layer, and what the method does with it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The model and the layer.
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    pub components: usize,
    pub rank: usize,
    pub split: usize,
    /// Tokens of the prefill.
    pub tokens: usize,
    /// Lloyd steps of the clustering.
    pub steps: usize,
}

/// How much of everything a device takes.
#[derive(Clone, Copy)]
pub struct Extent {
    pub tokens: usize,
    pub steps: usize,
}

/// What an operation cannot do without.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Least {
    pub bytes: f64,
    /// A multiplication and an addition are two.
    pub operations: f64,
}

/// Runs an operation, and says what that run could not do without: a clustering may be done early. Operands are made at the
/// first run.
type Run = Box<dyn FnMut(&Device) -> Result<Least, Error>>;

/// An operation on a layer.
pub struct Case {
    pub operation: &'static str,
    pub size: String,
    /// At most.
    pub least: Least,
    /// Tokens of the layer's own product, where that is a part of the operation.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub layer: Option<usize>,
    /// Whether kernels do it for any element; else for those of 16 bits.
    pub any_element: bool,
    pub run: Run,
}

/// The layer that attention begins with and the largest of each model; with `--full`, every one that differs.
pub fn shapes(arguments: &Arguments, extent: Extent) -> Vec<Shape> {
    let Extent { tokens, steps } = extent;
    if arguments.test {
        let (name, tokens) = ("tiny layer".to_owned(), arguments.tokens.unwrap_or(5));
        return vec![Shape { name, rows: 40, cols: 24, components: 2, rank: 4, split: 2, tokens, steps: 2 }];
    }
    let tokens = arguments.tokens.unwrap_or(tokens);
    let mut shapes = Vec::new();
    for model in Model::names().into_iter().filter_map(Model::named) {
        let distinct = model.shapes();
        let largest = distinct.iter().map(|(rows, cols)| rows * cols).max();
        let largest = distinct.iter().position(|(rows, cols)| Some(rows * cols) == largest);
        let rank = if distinct[0].1 < 1024 { 16 } else { 32 };
        for (place, &(rows, cols)) in distinct.iter().enumerate() {
            let layer = model.layers.iter().find(|layer| (layer.rows, layer.cols) == (rows, cols));
            let name = format!("{} {}", model.name, layer.map_or("", |layer| &layer.name));
            if (arguments.full || place == 0 || Some(place) == largest) && arguments.wants_shape(&name) {
                shapes.push(Shape { name, rows, cols, components: 4, rank, split: 2, tokens, steps });
            }
        }
    }
    shapes
}

/// Every operation on a layer.
pub fn cases<T: Elem>(shape: &Shape) -> Vec<Case> {
    let mut all = setup::cases::<T>(shape);
    all.extend(adapter::cases::<T>(shape));
    all.extend(gemm::cases::<T>(shape));
    all
}

/// Sums of four uniform numbers, close to normal, never all zero. Fast rather than good: words are taken in quarters.
pub fn random<T: Elem>(seed: u64, len: usize, size: f32) -> Vec<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || {
        let bits = rng.next_u64();
        let quarters = [bits, bits >> 16, bits >> 32, bits >> 48].map(|bits| (bits & 0xffff) as f32);
        quarters.iter().sum::<f32>() / 65536.0 - 2.0
    };
    (0..len).map(|_| T::from_f32(size * draw())).collect()
}

/// Distinct rows all over the weight, none after its neighbour.
fn skeleton(shape: &Shape) -> Vec<u32> {
    let width = shape.components * shape.rank;
    let stride = shape.rows / width;
    // 37 is prime and divides no width here: every place once.
    (0..width).map(|i| ((i * 37 % width) * stride) as u32).collect()
}
