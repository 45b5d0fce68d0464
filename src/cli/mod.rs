//! The commands: each reads files, calls the library, and prints.
//!
//! Exit codes: 0 done, 1 refused or failed (one line `error: …` on stderr), 2 wrong usage.

mod apply;
mod args;
mod chart;
mod curves;
mod devices;
mod export;
mod init;
mod inspect;
#[cfg(feature = "kernels")]
mod kernels;
mod merge;
mod modules;
mod output;
mod report;
mod text;
#[cfg(feature = "kernels")]
mod tune;
mod verify;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

/// Why a command stops.
#[derive(Debug)]
enum Failure {
    /// The library's own reason.
    Library(idlora::Error),
    /// A reason that only the command line knows.
    Command(String),
}

impl From<idlora::Error> for Failure {
    fn from(error: idlora::Error) -> Self {
        Self::Library(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Library(error) => error.fmt(f),
            Self::Command(reason) => f.write_str(reason),
        }
    }
}

impl Failure {
    fn command(reason: impl Into<String>) -> Self {
        Self::Command(reason.into())
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// The command in a build that has no kernels to show.
#[cfg(not(feature = "kernels"))]
mod kernels {
    use super::{Failure, Result, args::Kernels};

    pub fn run(_: &Kernels) -> Result<()> {
        Err(Failure::command("this build has no kernels; build it with `--features cli,kernels`"))
    }
}

/// The command in a build that has no kernels to tune.
#[cfg(not(feature = "kernels"))]
mod tune {
    use super::{Failure, Result, args::Tune};

    pub fn run(_: &Tune) -> Result<()> {
        Err(Failure::command("this build has no kernels; build it with `--features cli,kernels`"))
    }
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let result = match &Args::parse().command {
        Command::Init(args) => init::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Apply(args) => apply::run(args),
        Command::Merge(args) => merge::merge(args),
        Command::Unmerge(args) => merge::unmerge(args),
        Command::Export(args) => export::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Kernels(args) => kernels::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Report(args) => report::run(args),
        Command::Tune(args) => tune::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::message(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}
