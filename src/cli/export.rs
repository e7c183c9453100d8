//! `cmaec export`: writes a trained module for use elsewhere.

use std::path::PathBuf;

use clap::ValueEnum;
use cmae::eval::export::{self, Format, export_module};
use cmae::run::destination::{Kind, destination};

use super::output::{errln, outln};
use super::trained::Chosen;

/// Writes the pretrained encoder as safetensors that timm loads strictly, and prints the line that makes the network.
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
    /// Whose names the file has; by default timm's where the module is a network of timm.
    #[arg(long, value_enum)]
    format: Option<Names>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Names {
    /// timm's `VisionTransformer` or `Beit`: what `load_state_dict` takes strictly.
    Timm,
    /// The module's own, with all its tensors.
    Cmae,
}

pub fn main(args: Args) -> Result<(), String> {
    let output = destination(&args.output, Kind::Tensors, None).map_err(|error| error.to_string())?;
    let trained = args.chosen.load()?;
    let (program, spec) = (&trained.program, &trained.program.spec);
    let module = args.module.or_else(|| spec.export.clone()).ok_or_else(|| {
        format!("pipeline `{}` says nothing of what to export\nhelp: name it: --module encoder", spec.name)
    })?;
    let format = match args.format {
        Some(Names::Timm) => Format::Timm,
        Some(Names::Cmae) => Format::Own,
        None if export::network(program, &module).is_ok() => Format::Timm,
        None => Format::Own,
    };
    let written =
        export_module(program, &trained.arena, &module, format, &output).map_err(|error| error.to_string())?;
    if !written.left_out.is_empty() {
        errln!("left out, for pretraining alone needs it: {}", written.left_out.join(", "));
    }
    outln!("{}: {} tensors of `{module}` after step {}", args.output.display(), written.tensors, trained.step);
    if let Some(line) = written.line {
        outln!("model = {line}");
        outln!("model.load_state_dict(safetensors.torch.load_file({:?}))", args.output.display().to_string());
    }
    Ok(())
}
