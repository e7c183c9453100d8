//! The command line: one file a subcommand. Results go to stdout, progress and messages to stderr.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage.

mod bench;
mod bench_loader;
mod check;
mod compile;
mod completions;
mod cost;
mod data;
mod devices;
mod diff;
mod eval;
mod exchange;
mod explain;
mod export;
mod features;
mod files;
mod fmt;
mod inspect;
mod launch;
mod looks;
mod lsp;
mod new;
mod output;
mod passes;
mod pipeline;
mod plan;
mod progress;
mod report;
mod run;
mod schedule;
mod show;
mod signals;
mod speed;
mod study;
mod sweep;
mod terminal;
mod together;
mod trained;
mod tui;
mod values;
mod verify;
mod views;
mod weights;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::errln;

/// Trains contrastive masked autoencoders and their family from `.cmae` files.
#[derive(Parser)]
#[command(name = "cmaec", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Launch(launch::Args),
    New(new::Args),
    Check(check::Args),
    Fmt(fmt::Args),
    Show(show::Args),
    Diff(diff::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Devices(devices::Args),
    Compile(compile::Args),
    Eval(eval::Args),
    Features(features::Args),
    Export(export::Args),
    Study(study::Args),
    Report(report::Args),
    Inspect(inspect::Args),
    Data(data::Args),
    Explain(explain::Args),
    Completions(completions::Args),
    Man(completions::ManArgs),
    Lsp(lsp::Args),
}

pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::main(args),
        Command::Launch(args) => launch::main(args),
        Command::New(args) => new::main(args),
        Command::Check(args) => check::main(args),
        Command::Fmt(args) => fmt::main(args),
        Command::Show(args) => show::main(args),
        Command::Diff(args) => diff::main(args),
        Command::Bench(args) => bench::main(args),
        Command::Devices(args) => devices::main(args),
        Command::Compile(args) => compile::main(args),
        Command::Eval(args) => eval::main(args),
        Command::Features(args) => features::main(args),
        Command::Export(args) => export::main(args),
        Command::Study(args) => study::main(args),
        Command::Report(args) => report::main(args),
        Command::Inspect(args) => inspect::main(args),
        Command::Data(args) => data::main(args),
        Command::Verify(args) => verify::main(args),
        Command::Explain(args) => explain::main(args),
        Command::Completions(args) => completions::main(args),
        Command::Man(args) => completions::man(args),
        Command::Lsp(args) => lsp::main(args),
    };
    match result {
        Ok(()) => {
            output::finish();
            ExitCode::SUCCESS
        }
        Err(message) => {
            if !message.is_empty() {
                errln!("{message}");
            }
            ExitCode::from(1)
        }
    }
}
