//! `idlora init`.

use super::DEVICE;
use clap::{Args as ArgGroup, ValueEnum};
use idlora::Device;
use idlora::adapter::{BInit, Config};
use idlora::cluster::Space;
use idlora::lowrank::Gate;
use idlora::select::Selection;
use regex::Regex;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, ArgGroup)]
pub struct Init {
    /// A .safetensors file, or the .index.json of a sharded checkpoint; F16, BF16 and F32
    pub weights: PathBuf,

    /// Adapt the matrices whose tensor name matches REGEX (searched, not anchored)
    ///
    /// Every matrix that matches must then be F16, BF16 or F32 and have room for the adapter; matching vectors are passed
    /// over. Without this flag: all two-dimensional float tensors named `*.weight`, except embeddings, heads and poolers,
    /// and except those that the rank, clusters or split do not fit, which are named on stderr.
    #[arg(long = "match", value_name = "REGEX", value_parser = parse_regex)]
    pub matching: Option<Regex>,

    /// Rows chosen in each cluster, the rank r of a component
    #[arg(long, value_name = "R", default_value_t = Config::default().rank)]
    pub rank: usize,

    /// Clusters of rows, the components k
    #[arg(long, value_name = "K", default_value_t = Config::default().clusters)]
    pub clusters: usize,

    /// Fewest rows in a cluster; at least the rank [default: the rank]
    #[arg(long, value_name = "N")]
    pub min_size: Option<usize>,

    /// Rank Boosting's split s; divides the rank and the rows of every matrix
    #[arg(long, value_name = "S", default_value_t = Config::default().split)]
    pub split: usize,

    /// α; the update is scaled by α/r
    #[arg(long, value_name = "A", default_value_t = Config::default().alpha)]
    pub alpha: f32,

    /// Another rank and α for the modules whose name matches; the first match counts; may be repeated
    #[arg(long, value_name = "REGEX=RANK:ALPHA")]
    pub pattern: Vec<Pattern>,

    /// How the file stores a weight: [out, in] as PyTorch's Linear, or [in, out] as GPT-2's Conv1D
    #[arg(long, value_enum, value_name = "out-in|in-out", default_value_t = Layout::OutIn, hide_possible_values = true)]
    pub layout: Layout,

    /// How rows are compared
    #[arg(long, value_enum, value_name = "SPACE", default_value_t = ClusterBy::Full)]
    pub cluster_by: ClusterBy,

    /// Which rows of a cluster are chosen
    #[arg(long, value_enum, value_name = "RULE", default_value_t = Select::PivotedQr)]
    pub select: Select,

    /// How the components are weighted
    #[arg(long, value_enum, value_name = "GATE", default_value_t = GateKind::LinearSoftmax)]
    pub gate: GateKind,

    /// How the shared matrix B starts
    #[arg(long, value_enum, value_name = "START", default_value_t = BStart::Zero)]
    pub b_init: BStart,

    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = Config::default().seed)]
    pub seed: u64,

    /// Where the work runs; `idlora devices` lists what there is
    #[arg(long, value_name = DEVICE, default_value_t = Device::default())]
    pub device: Device,

    /// Threads to use; the result is the same for every number [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// The adapter's folder, which must not exist yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,

    /// Also draw relative error against rank, for every selection and the SVD optimum
    ///
    /// Each point is what `init --rank r` would reach with that selection, over all matrices together: choose a rank by
    /// looking. Takes far longer than the adapter itself; --match a few matrices of a large model.
    #[arg(long, value_name = "FILE.svg|png")]
    pub plot: Option<PlotFile>,
}

impl Init {
    /// The configuration of modules that no pattern matches.
    pub fn config(&self) -> Config {
        Config {
            rank: self.rank,
            alpha: self.alpha,
            clusters: self.clusters,
            min_size: self.min_size,
            split: self.split,
            cluster_by: self.cluster_by.into(),
            select: self.select.into(),
            gate: self.gate.into(),
            b_init: self.b_init.into(),
            seed: self.seed,
            ..Config::default()
        }
    }
}

fn parse_regex(text: &str) -> Result<Regex, regex::Error> {
    Regex::new(text)
}

/// `REGEX=RANK:ALPHA`.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub regex: Regex,
    pub rank: usize,
    pub alpha: f32,
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // From the right: the expression itself may contain `=` and `:`.
        let (regex, values) = text.rsplit_once('=').ok_or("expected REGEX=RANK:ALPHA")?;
        let (rank, alpha) = values.split_once(':').ok_or("expected RANK:ALPHA after the last `=`")?;
        Ok(Self {
            regex: Regex::new(regex).map_err(|error| error.to_string())?,
            rank: rank.parse().map_err(|error| format!("rank `{rank}`: {error}"))?,
            alpha: alpha.parse().map_err(|error| format!("alpha `{alpha}`: {error}"))?,
        })
    }
}

/// Where a plot goes, by its extension.
#[derive(Clone, Debug)]
pub struct PlotFile {
    pub path: PathBuf,
    pub format: PlotFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlotFormat {
    Svg,
    Png,
}

impl FromStr for PlotFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("svg") => Ok(Self { path, format: PlotFormat::Svg }),
            Some("png") => Ok(Self { path, format: PlotFormat::Png }),
            _ => Err("the name must end in .svg or .png".to_owned()),
        }
    }
}

/// How a file stores a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// [out, in]
    OutIn,
    /// [in, out]
    InOut,
}

/// Mirrors a library enumeration, so that the library needs no command-line crate.
macro_rules! mirror {
    ($(#[$doc:meta])* $name:ident => $library:ty { $($(#[$help:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum $name { $($(#[$help])* $variant,)* }

        impl From<$name> for $library {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant,)* }
            }
        }
    };
}

mirror! {
    /// `--cluster-by`.
    ClusterBy => Space {
        /// The rows themselves, Euclidean
        Full,
        /// Rows scaled to unit length
        Direction,
        /// The rows' norms alone, solved exactly
        Norm,
    }
}

mirror! {
    /// `--select`.
    Select => Selection {
        /// Nearest to the centroid
        Centroid,
        /// Pivoted QR: the interpolative decomposition
        PivotedQr,
        /// Pivoted QR of a random sketch
        Sketch,
        /// Largest norm
        Norm,
        /// Random, seeded
        Random,
    }
}

mirror! {
    /// `--gate`.
    GateKind => Gate {
        /// ⟨T, x⟩
        Inner,
        /// ⟨T, x / rms(x)⟩
        RmsInner,
        /// W_g h
        Linear,
        /// softmax(W_g h)
        LinearSoftmax,
        /// A constant per component; the only gate that can be merged
        Static,
    }
}

mirror! {
    /// `--b-init`.
    BStart => BInit {
        /// 0: the adapted model starts equal to the base model
        Zero,
        /// Normal with variance 1/r, seeded: for tests and ports
        Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Args, Command};
    use super::*;
    use clap::Parser;

    #[test]
    fn defaults_are_the_library_s() {
        let args = Args::try_parse_from(["idlora", "init", "w.safetensors", "--out", "dir"]).unwrap();
        let Command::Init(init) = args.command else { panic!("not init") };
        assert_eq!(init.config(), Config::default());
    }

    #[test]
    fn patterns_split_from_the_right() {
        let pattern: Pattern = "a=b:c=8:16".parse().unwrap();
        assert_eq!((pattern.regex.as_str(), pattern.rank, pattern.alpha), ("a=b:c", 8, 16.0));
        for bad in ["query", "query=8", "query=8:", "query=x:1", "(=8:16"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
