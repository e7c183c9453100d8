//! `cmaec check`: compiles pipelines and says what is wrong with them.

use std::path::PathBuf;

use super::output::{out, outln};
use super::pipeline::Options;

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
        let mut diagnostics = cmae::diag::Diagnostics::default();
        let result = cmae::compile(&mut sources, &mut diagnostics, file, &args.options.sets());
        match (result, args.json) {
            (Ok(compiled), json) => {
                let warnings = compiled.warnings(super::pipeline::pictures_here(&compiled.program));
                let denied = args.deny.is_some() && !warnings.is_empty();
                match json {
                    true => out!("{}", cmae::diag::render_json(&warnings, &sources)),
                    false if denied => failures.push(super::pipeline::draw(&warnings, &sources)),
                    false if !warnings.is_empty() => eprintln!("{}", super::pipeline::draw(&warnings, &sources)),
                    false => {}
                }
                match denied {
                    true if json => failures.push(String::new()),
                    true => {}
                    false if !json => outln!("{}: ok", file.display()),
                    false => {}
                }
            }
            (Err(_), true) => {
                out!("{}", cmae::diag::render_json(diagnostics.list(), &sources));
                failures.push(String::new());
            }
            (Err(_), false) => failures.push(super::pipeline::draw(diagnostics.list(), &sources)),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").trim_end().to_owned()) }
}
