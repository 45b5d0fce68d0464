//! Fine-tunes all-MiniLM-L6-v2 on BBC News.

use clap::Parser;
use idlora_finetune::args::{Args, Command};
use idlora_finetune::{cost, report, run, sweep, tune};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(args) => run::main(&args),
        Command::TuneLr(args) => tune::main(&args),
        Command::Sweep(args) => sweep::main(&args),
        Command::Cost(args) => cost::main(&args),
        Command::Steps(args) => cost::steps(&args),
        Command::Report(args) => report::main(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("finetune: {error}");
            ExitCode::FAILURE
        }
    }
}
