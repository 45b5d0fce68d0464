//! Adapted layers in candle's models: the forward is the adapter's to the bit, the gradients are those of plain candle
//! operations, and models are adapted, saved and loaded whole.
#![cfg(feature = "candle")]

#[path = "../common/mod.rs"]
mod common;

/// Asserts the variant of a refusal and every part of its message.
macro_rules! assert_refused {
    ($result:expr, $variant:ident, $($part:expr),+ $(,)?) => {{
        let error = $result.err().expect("must be refused");
        assert!(matches!(error, idlora::Error::$variant { .. }), "{error:?}");
        let message = error.to_string();
        for part in [$($part),+] {
            assert!(message.contains(part), "`{part}` not in: {message}");
        }
    }};
}

mod case;
mod definition;
mod forward;
mod gradients;
mod model;
mod refusals;
mod training;
