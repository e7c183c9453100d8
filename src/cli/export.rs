//! `cmaec export`: writes a trained module for use elsewhere.

use std::path::PathBuf;

use cmae::eval::export::export_module;
use cmae::run::destination::{Kind, destination};

use super::output::outln;
use super::trained::Chosen;

/// Writes the pretrained encoder as safetensors, in timm's names and layouts.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// A plain file; one that is there is written over, unless it is a run's.
    #[arg(short, long, value_name = "FILE.safetensors")]
    output: PathBuf,
    /// The module to write, such as `momentum.encoder`; by default the one that the pipeline's `export` names.
    #[arg(long)]
    module: Option<String>,
}

pub fn main(args: Args) -> Result<(), String> {
    let output = destination(&args.output, Kind::Tensors, None).map_err(|error| error.to_string())?;
    let trained = args.chosen.load()?;
    let (program, spec) = (&trained.program, &trained.program.spec);
    let module = args.module.or_else(|| spec.export.clone()).ok_or_else(|| {
        format!("pipeline `{}` says nothing of what to export\nhelp: name it: --module encoder", spec.name)
    })?;
    let count = export_module(program, &trained.arena, &module, &output).map_err(|error| error.to_string())?;
    outln!("{}: {count} tensors of `{module}` after step {}", args.output.display(), trained.step);
    Ok(())
}
