//! `cmaec check`: compiles pipelines and says what is wrong with them, and what is hardly meant.

use std::path::PathBuf;

use cmae::diag::{Diagnostic, Diagnostics, render_json};

use super::output::{out, outln};
use super::pipeline::{Options, draw, pictures_here};

/// Checks pipelines: names, units, the shape of every value. Reads no data, and counts the pictures that are here.
#[derive(clap::Args)]
pub struct Args {
    /// The files to check.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Prints errors and warnings as JSON, one object a line, on stdout.
    #[arg(long)]
    json: bool,
    /// Fails for warnings too: `--deny warnings`.
    #[arg(long, value_name = "WHAT", value_parser = ["warnings"])]
    deny: Option<String>,
}

pub fn main(args: Args) -> Result<(), String> {
    let mut failures = Vec::new();
    for file in &args.files {
        let mut sources = args.options.sources();
        let mut diagnostics = Diagnostics::default();
        let result = cmae::compile(&mut sources, &mut diagnostics, file, &args.options.sets());
        let (fails, told): (bool, Vec<Diagnostic>) = match result {
            Ok(compiled) => {
                let warnings = compiled.warnings(pictures_here(&compiled.program));
                (args.deny.is_some() && !warnings.is_empty(), warnings)
            }
            Err(_) => (true, diagnostics.list().to_vec()),
        };
        if args.json {
            out!("{}", render_json(&told, &sources));
        }
        let drawn = if args.json { String::new() } else { draw(&told, &sources) };
        if fails {
            failures.push(drawn);
            continue;
        }
        if !drawn.is_empty() {
            eprintln!("{drawn}");
        }
        if !args.json {
            outln!("{}: ok", file.display());
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").trim_end().to_owned()) }
}
