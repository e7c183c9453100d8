//! `cmaec check`.

use std::io::IsTerminal;
use std::path::PathBuf;

/// Checks pipelines: names, units, shapes of every value. Reads no data.
#[derive(clap::Args)]
pub struct Args {
    /// The files to check.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Changes a parameter or setting before the check: `--set mask_ratio=60%`.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    sets: Vec<String>,
}

pub fn main(args: Args) -> Result<(), String> {
    let mut failed = false;
    for file in &args.files {
        let mut sources = cmae::source::Sources::new();
        let mut diagnostics = cmae::diag::Diagnostics::default();
        match cmae::compile(&mut sources, &mut diagnostics, file, &args.sets) {
            Ok(_) => println!("{}: ok", file.display()),
            Err(_) => {
                let color = std::io::stderr().is_terminal();
                eprint!("{}", cmae::diag::render(diagnostics.list(), &sources, color));
                failed = true;
            }
        }
    }
    if failed { Err(String::new()) } else { Ok(()) }
}
