//! How components are weighted.

/// How the `k` components are weighted for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// `⟨T, x_i⟩` with a trained `T ∈ R^r` (the paper's text). Quadratic in h.
    Inner,
    /// `⟨T, x_i / rms(x_i)⟩`, `rms(x) = √(mean(x²) + 1e-6)`.
    RmsInner,
    /// `(W_g h)_i` with a trained `W_g [k, n]`.
    Linear,
    /// `softmax(W_g h)_i` (what the paper's tables count).
    #[default]
    LinearSoftmax,
    /// A trained constant per component; the only gate that can be merged.
    Static,
}

impl Gate {
    /// Shape of the gate's parameters: `[1, r]` for the inner gates, `[k, n]` for the linear ones, `[1, k]` for static.
    pub const fn parameter_shape(self, rank: usize, components: usize, cols: usize) -> (usize, usize) {
        match self {
            Self::Inner | Self::RmsInner => (1, rank),
            Self::Linear | Self::LinearSoftmax => (components, cols),
            Self::Static => (1, components),
        }
    }

    /// Its name, as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::RmsInner => "rms-inner",
            Self::Linear => "linear",
            Self::LinearSoftmax => "linear-softmax",
            Self::Static => "static",
        }
    }

    /// Whether the gate reads the layer's input `H`.
    pub const fn reads_input(self) -> bool {
        matches!(self, Self::Linear | Self::LinearSoftmax)
    }
}
