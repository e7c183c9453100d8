//! `cmaec export`: writes what was trained for use elsewhere.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use cmae::diag::Diagnostic;
use cmae::export::card::About;
use cmae::export::folder::{self, Asked};
use cmae::export::{ExportError, Format, Written, mae, module, onnx};
use cmae::run::destination::{self, Kind, destination};
use cmae::source::Sources;

use super::output::{errln, outln};
use super::pipeline;
use super::trained::{Chosen, Trained};

/// Writes the pretrained encoder for other libraries, which load it strictly, and prints the Python that does.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// A plain file, and with `--format transformers` a folder; what is there is written over, unless it is a run's.
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// The module to write, such as `momentum.encoder`; by default the one that the pipeline's `export` names.
    #[arg(long)]
    module: Option<String>,
    /// For whom; by default ONNX where the file ends in .onnx, else timm where the module is a network of timm.
    #[arg(long, value_enum)]
    format: Option<Names>,
    /// With `--format transformers`, the encoder of a masked autoencoder without its decoder.
    #[arg(long)]
    encoder_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Names {
    /// timm's `VisionTransformer` or `Beit`: safetensors that `load_state_dict` takes strictly.
    Timm,
    /// A folder that `from_pretrained` of transformers takes: `ViTModel`, `BeitModel`, `Dinov2Model`, `IJepaModel`, or `ViTMAEForPreTraining` with the decoder; with a model card.
    Transformers,
    /// facebookresearch/mae's names, encoder and decoder: safetensors.
    Mae,
    /// What `evaluate.features` is computed by, for a batch of any size.
    Onnx,
    /// The module's own names, with all its tensors: safetensors.
    Cmae,
}

pub fn main(args: Args) -> Result<(), String> {
    let is_onnx = args.output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
    let format = args.format.or(is_onnx.then_some(Names::Onnx));
    if args.encoder_only && format != Some(Names::Transformers) {
        return Err("`--encoder-only` is of transformers' folders\nhelp: add --format transformers".to_owned());
    }
    // Looked at before anything is loaded for it.
    let output = match format {
        Some(Names::Transformers) => destination::folder(&args.output, &folder::FILES),
        Some(Names::Onnx) => destination(&args.output, Kind::Graph, None),
        _ => destination(&args.output, Kind::Tensors, None),
    };
    let output = output.map_err(|error| error.to_string())?;
    let trained = args.chosen.load()?;
    if format == Some(Names::Onnx) {
        return match args.module {
            Some(module) => Err(format!(
                "`--format onnx` writes what the features are computed by, not `{module}`\nhelp: leave --module out"
            )),
            None => graph(&trained, &output, &args.output),
        };
    }
    let (program, spec) = (&trained.program, &trained.program.spec);
    let module = args.module.or_else(|| spec.export.clone()).ok_or_else(|| {
        format!("pipeline `{}` says nothing of what to export\nhelp: name it: --module encoder", spec.name)
    })?;
    let own = |format| module::write(program, &trained.arena, &module, format, &output);
    let written = match format {
        Some(Names::Timm) => own(Format::Timm),
        Some(Names::Transformers) => {
            let about = About::read(args.chosen.run(), trained.step);
            let asked = Asked { module: &module, encoder_only: args.encoder_only, about: &about, shown: &args.output };
            folder::write(program, &trained.arena, asked, &output)
        }
        Some(Names::Mae) => mae::write(program, &trained.arena, &module, &output),
        None if module::timm_line(program, &module).is_ok() => own(Format::Timm),
        Some(Names::Cmae | Names::Onnx) | None => own(Format::Own),
    };
    let Written { tensors, mut lines, left_out } = written.map_err(|error| explain(&error))?;
    if !lines.is_empty() && format != Some(Names::Transformers) {
        lines.push(module::load_line(&args.output));
    }
    if !left_out.is_empty() {
        errln!("left out, for features do without: {}", left_out.join(", "));
    }
    outln!("{}: {tensors} tensors of `{module}` after step {}", args.output.display(), trained.step);
    lines.iter().for_each(|line| outln!("{line}"));
    Ok(())
}

/// Writes the graph of the features to `output`, which is shown as its user named it.
fn graph(trained: &Trained, output: &Path, shown: &Path) -> Result<(), String> {
    let written = onnx::write(&trained.program, &trained.arena, trained.step, output);
    let onnx::Exported { nodes, pictures, dim, is_apart } = written.map_err(|error| explain(&error))?;
    let sizes: Vec<String> = pictures.iter().map(usize::to_string).collect();
    outln!(
        "{}: {nodes} nodes, pictures [batch, {}] to features [batch, {dim}], after step {}",
        shown.display(),
        sizes.join(", "),
        trained.step
    );
    if is_apart {
        outln!("{}: its weights, which go where it goes", onnx::weights_beside(shown).display());
    }
    onnx::lines(shown).iter().for_each(|line| outln!("{line}"));
    Ok(())
}

/// With its code, where it has one.
fn explain(error: &ExportError) -> String {
    match error.code() {
        Some(code) => {
            let diagnostic = Diagnostic::new(code, error.to_string()).maybe_help(error.help());
            pipeline::draw(&[diagnostic], &Sources::new())
        }
        None => error.to_string(),
    }
}
