//! `cmaec completions` and `cmaec man`: what shells and `man` know of the commands, from their own definition.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::output::{out, outln};

/// Prints completions for a shell.
///
/// bash: cmaec completions bash > ~/.local/share/bash-completion/completions/cmaec; zsh: into a folder of $fpath as _cmaec; fish:
/// ~/.config/fish/completions/cmaec.fish.
#[derive(clap::Args)]
pub struct Args {
    shell: Shell,
}

pub fn main(args: Args) -> Result<(), String> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cmaec", &mut script);
    out!("{}", String::from_utf8_lossy(&script));
    Ok(())
}

/// Writes manual pages: cmaec.1, and one for each command.
#[derive(clap::Args)]
pub struct ManArgs {
    /// The folder that they are written into, such as ~/.local/share/man/man1.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

pub fn man(args: ManArgs) -> Result<(), String> {
    let folder = &args.output;
    let failed = |error: std::io::Error| format!("cannot write into {}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    outln!("{}", folder.join("cmaec.1").display());
    Ok(())
}
