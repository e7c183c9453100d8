//! `cmaec lsp`: the language server, for editors.

use std::io::BufReader;
use std::path::PathBuf;

use super::output;

/// Serves editors by the Language Server Protocol, over stdin and stdout: errors as one types, shapes, completion, renaming.
///
/// Editors start it themselves: docs/editors.md has the lines for each.
#[derive(clap::Args)]
pub struct Args {
    /// Takes the standard library from this folder instead of the one in the binary.
    #[arg(long, value_name = "FOLDER")]
    stdlib: Option<PathBuf>,
    /// What editors add by habit: nothing else is spoken.
    #[arg(long, hide = true)]
    stdio: bool,
}

pub fn main(args: Args) -> Result<(), String> {
    let Args { stdlib, stdio: _ } = args;
    cmae::lsp::serve(BufReader::new(std::io::stdin()), output::stream(), stdlib)
}
