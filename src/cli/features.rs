//! `cmaec features`: writes a trained model's features of pictures.

use std::path::PathBuf;
use std::sync::Arc;

use cmae::backend::BackendError;
use cmae::data::evaluation::EvalBatches;
use cmae::eval::feature_file::{FeatureFile, labels_beside};
use cmae::eval::features::{FeaturesError, Made};
use cmae::eval::shared::{Sink, left_out, shared};
use cmae::eval::{Pass, features, judge};
use cmae::ranks::{self, Ranks};
use cmae::run::destination::{Kind, destination};

use super::output::{errln, outln};
use super::passes::Passes;
use super::pipeline::{self, Engine};
use super::together;
use super::trained::{Chosen, Trained};

/// Writes the features of pictures. As safetensors: `features` [N, D], `labels` [N] (−1 without classes), and in the metadata the names of the
/// pictures and of the classes that labels count. As numpy's arrays: FILE.npy and FILE.labels.npy. As Parquet: the columns `path`, `label` and
/// `features`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Where pictures lie, as `cmaec data check PATH` takes it, or a source of the pipeline, such as `data.val`.
    #[arg(long, value_name = "PATH")]
    data: String,
    /// A plain file that ends in .safetensors, .npy or .parquet; one that is there is written over, unless it is a run's.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    engine: Engine,
}

pub fn main(args: Args) -> Result<(), String> {
    together::main(|ranks| write(args, &**ranks).map(|()| None))
}

/// Ranks share the pictures; the first writes the file.
fn write(args: Args, engine: &dyn Ranks) -> Result<(), String> {
    pipeline::start_threads(None, engine.local())?;
    let kind = match args.output.extension().map(|ending| ending.to_string_lossy().to_lowercase()).as_deref() {
        Some("npy") => Kind::Array,
        Some("parquet") => Kind::Table,
        _ => Kind::Tensors,
    };
    let output = destination(&args.output, kind, None).map_err(|error| error.to_string())?;
    let labels = (kind == Kind::Array).then(|| labels_beside(&output));
    if let Some(labels) = &labels {
        destination(labels, kind, None).map_err(|error| error.to_string())?;
    }
    let trained = Trained { quiet: engine.rank() > 0, ..args.chosen.load()? };
    let program = &trained.program;
    let graph = program.features.as_ref().ok_or_else(|| {
        format!("pipeline `{}` has no features\nhelp: add `evaluate {{ features = … }}` to it", program.spec.name)
    })?;
    let source = trained.source(&args.data)?;
    let failed = |error: BackendError| error.to_string();
    let backend = args.engine.open::<f32>(engine)?;
    let images: Arc<[usize]> = (0..source.len()).collect();
    let of = images.len();
    let batches =
        judge::batches(program, graph, &["features".to_owned()], &source, images).map_err(|error| error.to_string())?;
    let mut batches = batches.of_rank(engine.rank(), engine.count());
    let mut session = backend.open(program, trained.arena).map_err(failed)?;
    let mut passes = Passes::watch(engine)?;
    let mut file: Option<FeatureFile<'_>> = None;
    let (mut done, mut dim) = (0, 0);
    let mut sink = |made: Made| -> Result<(), FeaturesError> {
        if engine.rank() == 0 {
            let file = match &mut file {
                Some(file) => file,
                None => file.insert(FeatureFile::create(&output, &*source, made.features.dim)?),
            };
            file.push(&made)?;
        }
        (done, dim) = (done + made.rows.len(), made.features.dim);
        let stops = passes.look(Pass { what: "features", done, of }).is_break();
        if ranks::any(engine, stops) { Err(FeaturesError::Stopped) } else { Ok(()) }
    };
    let make = |batches: &mut EvalBatches, sink: Sink<'_, FeaturesError>| {
        features::extract(&mut *session, graph, batches, sink)
    };
    shared(engine, &mut batches, make, &mut sink).map_err(|error| error.to_string())?;
    drop(passes);
    let left_out = left_out(engine, &batches, &args.data).map_err(|error| error.to_string())?;
    if engine.rank() > 0 {
        return Ok(());
    }
    left_out.iter().for_each(|left_out| errln!("warning: {left_out}"));
    // Where no picture gave a row, that was an error already.
    let rows = file.map_or(Ok(0), FeatureFile::finish).map_err(|error| error.to_string())?;
    outln!("{}: {rows} pictures, {dim} features each", args.output.display());
    if labels.is_some() {
        outln!("{}: their labels, −1 where one has none", labels_beside(&args.output).display());
    }
    Ok(())
}
