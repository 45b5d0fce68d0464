//! The adapter as a trainer meets it: what may be asked of it, what initialising makes, and that training with it works.

#[path = "../common/mod.rs"]
mod common;

/// Asserts the variant of a refusal and every part of its message.
macro_rules! assert_refused {
    ($result:expr, $variant:ident, $($part:expr),+ $(,)?) => {{
        let error = $result.err().expect("must be refused");
        assert!(matches!(error, Error::$variant { .. }), "{error:?}");
        let message = error.to_string();
        for part in [$($part),+] {
            assert!(message.contains(part), "`{part}` not in: {message}");
        }
    }};
}

mod configuration;
mod formula;
mod init;
mod merge;
mod training;

use common::matrices::Draw;
use common::{Padded, on_threads};
use idlora::Elem;
use idlora::lowrank::Gate;

const GATES: [Gate; 5] = [Gate::Inner, Gate::RmsInner, Gate::Linear, Gate::LinearSoftmax, Gate::Static];

fn random<T: Elem>(seed: u64, rows: usize, cols: usize, pad: usize) -> Padded<T> {
    Padded::new(&Draw::new(seed).gaussian(rows, cols), pad)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
