//! Enumerations of the header. C passes integers, which are looked up: a Rust enumeration of a wrong value must not exist.

use crate::status::{Answer, Refusal};
use idlora::Dtype;
use idlora::adapter::{BInit, Scaling};
use idlora::cluster::Space;
use idlora::lowrank::{Bias, DownProjection, Gate};
use idlora::select::Selection;

/// Element type of weights and activations. There is no 0: a struct that was not filled in is refused.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_dtype {
    /// float.
    IDLORA_DTYPE_F32 = 1,
    /// IEEE binary16, as uint16_t.
    IDLORA_DTYPE_F16 = 2,
    /// bfloat16, the upper half of a float, as uint16_t.
    IDLORA_DTYPE_BF16 = 3,
}

/// How the k components of a token are weighted. x_i are its values of component i, h is its input. There is no 0.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_gate {
    /// `<T, x_i>` with a trained T [1, r].
    IDLORA_GATE_INNER = 1,
    /// `<T, x_i / rms(x_i)>`, T [1, r].
    IDLORA_GATE_RMS_INNER = 2,
    /// (W_g h)_i with a trained W_g [k, n]. Reads h.
    IDLORA_GATE_LINEAR = 3,
    /// softmax(W_g h)_i, W_g [k, n]. Reads h. The default.
    IDLORA_GATE_LINEAR_SOFTMAX = 4,
    /// A trained constant per component [1, k]; the only gate that can be merged.
    IDLORA_GATE_STATIC = 5,
}

/// Where rows are compared when they are clustered.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_space {
    /// The rows themselves.
    IDLORA_SPACE_FULL = 0,
    /// Rows scaled to unit length.
    IDLORA_SPACE_DIRECTION = 1,
    /// Norms of rows.
    IDLORA_SPACE_NORM = 2,
}

/// Which r rows of a cluster are chosen.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_selection {
    /// Pivots of a pivoted QR: the interpolative decomposition.
    IDLORA_SELECTION_PIVOTED_QR = 0,
    /// Nearest to the centroid.
    IDLORA_SELECTION_CENTROID = 1,
    /// Pivoted QR of a random sketch.
    IDLORA_SELECTION_SKETCH = 2,
    /// Largest norm.
    IDLORA_SELECTION_NORM = 3,
    /// Random, seeded.
    IDLORA_SELECTION_RANDOM = 4,
}

/// The factor on the update.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_scaling {
    /// alpha / r.
    IDLORA_SCALING_ALPHA_OVER_RANK = 0,
    /// alpha / sqrt(r).
    IDLORA_SCALING_ALPHA_OVER_SQRT_RANK = 1,
    /// 1.
    IDLORA_SCALING_ONE = 2,
}

/// How the shared matrix B starts.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_b_init {
    /// 0: the adapted model starts equal to the base model.
    IDLORA_B_INIT_ZERO = 0,
    /// Normal with variance 1/r, seeded: for tests and for porting.
    IDLORA_B_INIT_NORMAL = 1,
}

/// Where the values x of the chosen rows come from.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_down {
    /// The chosen columns of the base output: exact where that is the linear layer's own output, before any activation,
    /// after the all-reduce of a row-parallel layer, without dropout on its input.
    IDLORA_DOWN_GATHER = 0,
    /// An explicit `H W[S]^T` elsewhere. The forward reads h and w.
    IDLORA_DOWN_GEMM = 1,
}

/// What the base layer did with its bias.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_bias {
    /// It has none.
    IDLORA_BIAS_NONE = 0,
    /// The base output includes it. The forward reads bias.
    IDLORA_BIAS_INCLUDED = 1,
    /// The base output is without it; the forward reads bias and adds it.
    IDLORA_BIAS_SEPARATE = 2,
}

/// A trained tensor of an adapter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_parameter {
    /// The shared matrix B [m/s, r/s].
    IDLORA_PARAMETER_B = 0,
    /// The gate's: [1, r], [k, n] or [1, k].
    IDLORA_PARAMETER_GATE = 1,
}

use idlora_b_init::*;
use idlora_bias::*;
use idlora_down::*;
use idlora_dtype::*;
use idlora_gate::*;
use idlora_parameter::*;
use idlora_scaling::*;
use idlora_selection::*;
use idlora_space::*;

/// An enumeration of the header and its meaning in the library.
pub(crate) trait Choice: Copy + PartialEq + Sized + 'static {
    /// The header's name for it.
    const NAME: &'static str;
    /// All its values.
    const ALL: &'static [(u32, Self)];

    /// What the integer `value` of `member` stands for.
    fn of(member: &str, value: u32) -> Answer<Self> {
        let found = Self::ALL.iter().find(|(number, _)| *number == value);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(|(number, _)| number.to_string()).collect();
            let message = format!("`{member}` is {value}, expected a value of {}: {}", Self::NAME, known.join(", "));
            Refusal::argument(message)
        })
    }

    /// The integer.
    fn number(self) -> u32 {
        // Every value has one: a test counts them.
        Self::ALL.iter().find(|(_, choice)| *choice == self).map_or(u32::MAX, |(number, _)| *number)
    }
}

macro_rules! choices {
    ($($name:literal: $of:ty, $($number:ident = $value:expr),+;)+) => {
        $(impl Choice for $of {
            const NAME: &'static str = $name;
            const ALL: &'static [(u32, Self)] = &[$(($number as u32, $value)),+];
        })+
    };
}

choices! {
    "idlora_dtype": Dtype, IDLORA_DTYPE_F32 = Dtype::F32, IDLORA_DTYPE_F16 = Dtype::F16, IDLORA_DTYPE_BF16 = Dtype::BF16;
    "idlora_gate": Gate, IDLORA_GATE_INNER = Gate::Inner, IDLORA_GATE_RMS_INNER = Gate::RmsInner,
        IDLORA_GATE_LINEAR = Gate::Linear, IDLORA_GATE_LINEAR_SOFTMAX = Gate::LinearSoftmax, IDLORA_GATE_STATIC = Gate::Static;
    "idlora_space": Space, IDLORA_SPACE_FULL = Space::Full, IDLORA_SPACE_DIRECTION = Space::Direction,
        IDLORA_SPACE_NORM = Space::Norm;
    "idlora_selection": Selection, IDLORA_SELECTION_PIVOTED_QR = Selection::PivotedQr,
        IDLORA_SELECTION_CENTROID = Selection::Centroid, IDLORA_SELECTION_SKETCH = Selection::Sketch,
        IDLORA_SELECTION_NORM = Selection::Norm, IDLORA_SELECTION_RANDOM = Selection::Random;
    "idlora_scaling": Scaling, IDLORA_SCALING_ALPHA_OVER_RANK = Scaling::AlphaOverRank,
        IDLORA_SCALING_ALPHA_OVER_SQRT_RANK = Scaling::AlphaOverSqrtRank, IDLORA_SCALING_ONE = Scaling::One;
    "idlora_b_init": BInit, IDLORA_B_INIT_ZERO = BInit::Zero, IDLORA_B_INIT_NORMAL = BInit::Normal;
    "idlora_down": DownProjection, IDLORA_DOWN_GATHER = DownProjection::Gather, IDLORA_DOWN_GEMM = DownProjection::Gemm;
    "idlora_bias": Bias, IDLORA_BIAS_NONE = Bias::None, IDLORA_BIAS_INCLUDED = Bias::Included,
        IDLORA_BIAS_SEPARATE = Bias::Separate;
    "idlora_parameter": Trained, IDLORA_PARAMETER_B = Trained::B, IDLORA_PARAMETER_GATE = Trained::Gate;
}

/// A trained tensor, by its place in `IdLora::parameters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trained {
    B,
    Gate,
}

/// One expression for an element type that is known when it runs.
macro_rules! by_dtype {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            idlora::Dtype::F32 => {
                type $element = f32;
                $body
            }
            idlora::Dtype::F16 => {
                type $element = idlora::f16;
                $body
            }
            idlora::Dtype::BF16 => {
                type $element = idlora::bf16;
                $body
            }
        }
    };
}
pub(crate) use by_dtype;

#[cfg(test)]
mod tests {
    use super::*;

    /// Each value and its number, back and forth; any other number is refused by name.
    fn round_trip<C: Choice + std::fmt::Debug>(values: usize) {
        assert_eq!(C::ALL.len(), values, "{}", C::NAME);
        for (number, choice) in C::ALL {
            assert_eq!((C::of("it", *number).unwrap(), choice.number()), (*choice, *number));
        }
        for wrong in [values as u32 + 1, 77, u32::MAX] {
            let refusal = C::of("it", wrong).unwrap_err();
            assert!(refusal.message.starts_with(&format!("`it` is {wrong}, expected a value of {}", C::NAME)));
        }
    }

    #[test]
    fn enumerations_are_complete() {
        round_trip::<Dtype>(3);
        round_trip::<Gate>(5);
        round_trip::<Space>(3);
        round_trip::<Selection>(5);
        round_trip::<Scaling>(3);
        round_trip::<BInit>(2);
        round_trip::<DownProjection>(2);
        round_trip::<Bias>(3);
        round_trip::<Trained>(2);
        assert!(Dtype::of("dtype", 0).is_err() && Gate::of("gate", 0).is_err(), "what was not filled in");
    }
}
