//! `cmaec features`: writes a trained model's features of pictures.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use cmae::backend::BackendError;
use cmae::eval::features::{FeatureFile, FeaturesError, Made};
use cmae::eval::{Pass, features, quality};
use cmae::run::destination::{Kind, destination};

use super::output::{errln, outln};
use super::passes::Passes;
use super::pipeline::Engine;
use super::trained::Chosen;

/// Writes the features of pictures as safetensors: `features` [N, D], `labels` [N] (−1 without classes), and in
/// the metadata the names of the pictures and of the classes that labels count.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Where pictures lie, as `cmaec data check PATH` takes it, or a source of the pipeline, such as `data.val`.
    #[arg(long, value_name = "PATH")]
    data: String,
    /// A plain file; one that is there is written over, unless it is a run's.
    #[arg(short, long, value_name = "FILE.safetensors")]
    output: PathBuf,
    #[command(flatten)]
    engine: Engine,
}

pub fn main(args: Args) -> Result<(), String> {
    let output = destination(&args.output, Kind::Tensors, None).map_err(|error| error.to_string())?;
    let trained = args.chosen.load()?;
    let program = &trained.program;
    let graph = program.features.as_ref().ok_or_else(|| {
        format!("pipeline `{}` has no features\nhelp: add `evaluate {{ features = … }}` to it", program.spec.name)
    })?;
    let source = trained.source(&args.data)?;
    let failed = |error: BackendError| error.to_string();
    let backend = args.engine.open::<f32>()?;
    let images: Arc<[usize]> = (0..source.len()).collect();
    let of = images.len();
    let mut batches = quality::batches(program, graph, &source, images).map_err(|error| error.to_string())?;
    let mut session = backend.open(program, trained.arena).map_err(failed)?;
    let mut passes = Passes::watch()?;
    let mut file: Option<FeatureFile<'_>> = None;
    let (mut done, mut dim) = (0, 0);
    let sink = |made: Made| -> Result<(), FeaturesError> {
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(FeatureFile::create(&output, &*source, made.features.dim)?),
        };
        file.push(&made)?;
        (done, dim) = (done + made.rows.len(), made.features.dim);
        match passes.look(Pass { what: "features", done, of }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(FeaturesError::Stopped),
        }
    };
    features::extract(&mut *session, graph, batches.by_ref(), sink).map_err(|error| error.to_string())?;
    drop(passes);
    let left_out = quality::left_out(&batches, &args.data).map_err(|error| error.to_string())?;
    left_out.iter().for_each(|left_out| errln!("warning: {left_out}"));
    // Where no picture gave a row, that was an error already.
    let rows = file.map_or(Ok(0), FeatureFile::finish).map_err(|error| error.to_string())?;
    outln!("{}: {rows} pictures, {dim} features each", args.output.display());
    Ok(())
}
