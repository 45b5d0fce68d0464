//! How a kernel is run, by value.

use serde::{Deserialize, Serialize};

/// One of the ways in which a kernel can be run. All ways give the same bits.
///
/// A record holds it by value, so that a table made by another version of this crate says what it means: one that this
/// version cannot run is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kernel", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Config {
    /// The adapter's forward, a block for some tokens and all their columns.
    Lowrank {
        /// Tokens of a block.
        tokens: u32,
        /// Whether the block's `Y0` stays in shared memory.
        holds: bool,
    },
    /// The adapter's forward of a few tokens, their columns cut over blocks.
    LowrankDecode {
        /// Tokens of a token group.
        tokens: u32,
        /// Windows of columns that a block takes.
        windows: u32,
    },
    /// The explicit down-projection.
    LowrankDown {
        /// Tokens of a tile.
        tokens: u32,
        /// Columns of a tile.
        columns: u32,
    },
    /// A layer with its components.
    SharedGemm {
        /// Tokens of a tile.
        tokens: u32,
        /// Columns of a tile.
        columns: u32,
        /// Blocks of tokens that share columns at a time.
        raster: u32,
    },
    /// The layer's input gradient.
    SharedGemmGrad {
        /// Tokens of a tile.
        tokens: u32,
        /// Columns of a tile.
        columns: u32,
        /// Blocks of tokens that share columns at a time.
        raster: u32,
    },
}

impl Config {
    /// The kernel's name, as records have it.
    pub fn kernel(&self) -> &'static str {
        match self {
            Self::Lowrank { .. } => "lowrank",
            Self::LowrankDecode { .. } => "lowrank_decode",
            Self::LowrankDown { .. } => "lowrank_down",
            Self::SharedGemm { .. } => "shared_gemm",
            Self::SharedGemmGrad { .. } => "shared_gemm_grad",
        }
    }
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kernel())?;
        match self {
            Self::Lowrank { tokens, holds } => {
                write!(f, " {tokens} tokens{}", if *holds { ", Y0 held" } else { "" })
            }
            Self::LowrankDecode { tokens, windows } => write!(f, " {tokens} tokens, {windows} windows"),
            Self::LowrankDown { tokens, columns } => write!(f, " {tokens}×{columns}"),
            Self::SharedGemm { tokens, columns, raster } | Self::SharedGemmGrad { tokens, columns, raster } => {
                write!(f, " {tokens}×{columns}, raster {raster}")
            }
        }
    }
}
