//! `cmaec diff`: in what pipelines or runs differ.

use std::path::{Path, PathBuf};

use cmae::run::RunFolder;
use cmae::run::settings::{differences, flat};
use cmae::spec::Spec;
use serde_json::{Map, Value, json};

use super::output::outln;
use super::pipeline::Options;

/// Tells the settings and definitions in which pipelines or runs differ.
///
/// Overrides and what variants replace count as what they make of a pipeline.
#[derive(clap::Args)]
pub struct Args {
    /// Files of pipelines, or folders of runs.
    #[arg(required = true, num_args = 2.., value_name = "PIPELINE|RUN")]
    what: Vec<PathBuf>,
    /// Prints them as JSON: by setting, a list of values.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

pub fn main(args: Args) -> Result<(), String> {
    let all = args.what.iter().map(|path| Ok(flat(&spec(path, &args.options)?))).collect::<Result<Vec<_>, String>>()?;
    let found = differences(&all);
    if args.json {
        let by_name: Map<String, Value> = found.into_iter().map(|(name, values)| (name, json!(values))).collect();
        outln!("{}", Value::Object(by_name));
        return Ok(());
    }
    let names: Vec<String> = args.what.iter().map(|path| path.display().to_string()).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (setting, values) in &found {
        outln!("{setting}");
        for (name, value) in names.iter().zip(values) {
            outln!("  {name:width$}  {}", value.as_deref().unwrap_or("–"));
        }
    }
    outln!("{} settings and definitions differ", found.len());
    Ok(())
}

/// Of a pipeline's file, or of the folder of a run.
fn spec(path: &Path, options: &Options) -> Result<Spec, String> {
    match path.is_dir() {
        true => {
            let program = RunFolder::open(path).and_then(|folder| folder.program());
            Ok(program.map_err(|error| error.to_string())?.spec)
        }
        false => Ok(options.clone().compile(path)?.0.program.spec),
    }
}
