//! `idlora report`.

use clap::Args as ArgGroup;
use std::path::PathBuf;

#[derive(Debug, ArgGroup)]
pub struct Report {
    /// Files of results, as `cargo bench --bench kernels` writes them; several are shown on one page
    #[arg(required = true, value_name = "RESULTS.json")]
    pub results: Vec<PathBuf>,

    /// The page to write, which must not exist yet; it needs no other file and no network
    #[arg(long, value_name = "FILE.html")]
    pub out: PathBuf,
}
