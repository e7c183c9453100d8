//! `cmaec verify`: a pipeline against tensors that another implementation wrote.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use cmae::backend::Compute;
use cmae::diag::Diagnostics;
use cmae::elab::{Set, evaluate_number};
use cmae::graph::Program;
use cmae::ranks::Alone;
use cmae::spec::Clock;
use cmae::train::{Trainer, init};
use cmae::verify::{self, Fixture, Map, Mode, Report, verify_eval, verify_train, verify_views, with_given};

use super::output::{out, outln};
use super::pipeline::{self, Engine, Options};

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
    F64,
}

/// Runs a pipeline on the weights and inputs of a file, and compares what comes out with what the file expects.
///
/// Forward pass, losses, gradients, optimizer steps and averaged copies are those of `cmaec run`. Exit code 1 where a
/// tensor differs by more than its tolerance.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// The pipeline; the mapping names it where this is left out.
    #[arg(value_name = "PIPELINE")]
    file: Option<PathBuf>,
    /// Reference tensors.
    #[arg(long, value_name = "FILE.safetensors", required = true)]
    against: Option<PathBuf>,
    /// Which tensor is which (RON). By default NAME.ron for NAME.safetensors: beside it, in `maps/` beside it, or in
    /// `tests/golden/maps/`.
    #[arg(long, value_name = "FILE.ron")]
    map: Option<PathBuf>,
    /// Largest difference allowed, instead of the file's own tolerances.
    #[arg(long)]
    tolerance: Option<f64>,
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    engine: Engine,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

#[derive(clap::Subcommand)]
enum What {
    /// Holds view steps against those of torchvision: the file's picture by the steps that its config lists, beside its results.
    Views {
        #[arg(value_name = "FILE.safetensors")]
        file: PathBuf,
        /// Prints the report as JSON.
        #[arg(long)]
        json: bool,
    },
}

fn views(path: &Path, as_json: bool) -> Result<(), String> {
    let file = Fixture::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let report = verify_views(&file).map_err(|error| format!("{}: {error}", path.display()))?;
    match as_json {
        true => outln!("{}", report.json()),
        false => out!("{}", report.text()),
    }
    if report.ok() { Ok(()) } else { Err(report.summary()) }
}

pub fn main(args: Args) -> Result<(), String> {
    if let Some(What::Views { file, json }) = &args.what {
        return views(file, *json);
    }
    let against = args.against.as_ref().expect("it is required where there is no subcommand");
    let map_path = match &args.map {
        Some(path) => path.clone(),
        None => find_map(against)?,
    };
    let text = std::fs::read_to_string(&map_path)
        .map_err(|error| format!("cannot read the mapping {}: {error}", map_path.display()))?;
    let map = Map::parse(&text).map_err(|error| format!("{}: {error}", map_path.display()))?;
    let file = Fixture::read(against).map_err(|error| format!("{}: {error}", against.display()))?;
    let file = file.renamed(&map.renaming().map_err(|error| format!("{}: {error}", map_path.display()))?);
    let mut config = file.config.0.clone();
    if let Some(config) = config.as_object_mut() {
        config.insert("shape_of".to_owned(), file.shapes());
    }
    let config = &config;
    let pipeline = match &args.file {
        Some(path) => path.clone(),
        None => find_pipeline(&map.pipeline, &map_path)?,
    };
    let of_map =
        map.set.iter().map(|(name, value)| Set { text: format!("{name}={value}"), config: Some(config.clone()) });
    let sets: Vec<Set> = of_map.chain(args.options.sets()).collect();
    let (compiled, _) = pipeline::compile(args.options.sources(), &pipeline, &sets)?;
    let number = |text: &Option<String>| -> Result<Option<f64>, String> {
        let Some(text) = text else { return Ok(None) };
        let mut sources = args.options.sources();
        let mut diagnostics = Diagnostics::default();
        evaluate_number(&mut sources, &mut diagnostics, text, config)
            .map_err(|_| pipeline::draw(diagnostics.list(), &sources))?
            .map(Some)
            .ok_or_else(|| format!("{}: `{text}` is no number", map_path.display()))
    };
    let options = verify::Options {
        tolerance: args.tolerance,
        steps: number(&map.steps)?.map_or(1, |steps| steps.max(1.0) as usize),
        null_after: number(&map.null_after)?,
    };
    let report = match args.precision {
        Precision::F32 => report::<f32>(&compiled.program, &file, &map, &options, &args.engine)?,
        Precision::F64 => report::<f64>(&compiled.program, &file, &map, &options, &args.engine)?,
    };
    if args.json {
        outln!("{}", report.json());
    } else {
        out!("{}", report.text());
    }
    if report.ok() { Ok(()) } else { Err(report.summary()) }
}

fn report<E: Compute>(
    program: &Program,
    file: &Fixture,
    map: &Map,
    options: &verify::Options,
    engine: &Engine,
) -> Result<Report, String> {
    let mut backend = engine.open::<E>(&Alone)?;
    let report = match map.mode {
        Mode::Train => {
            // A file is one batch, given again in each step: an epoch has one step.
            let program = &with_given(program, map);
            let tensors = init::initialise(&program.layout, program.spec.train.seed);
            let session = backend.open(program, tensors).map_err(|error| error.to_string())?;
            let mut trainer = Trainer::new(program, session, Clock::new(program.spec.train.epochs, 1));
            // A state that the first batch would start comes from the file.
            trainer.fresh_states = false;
            verify_train(program, &mut trainer, file, map, options)
        }
        Mode::Eval => {
            let mut arena: Vec<E> = init::initialise(&program.layout, program.spec.train.seed);
            verify_eval(program, &mut *backend, &mut arena, file, map, options)
        }
    };
    report.map_err(|error| error.to_string())
}

fn find_map(against: &Path) -> Result<PathBuf, String> {
    let name = Path::new(against.file_stem().unwrap_or_default()).with_extension("ron");
    let folder = against.parent().unwrap_or(Path::new(""));
    let places = [folder.join(&name), folder.join("maps").join(&name), Path::new("tests/golden/maps").join(&name)];
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let tried: Vec<String> = places.iter().map(|path| format!("\n  {}", path.display())).collect();
        format!("no mapping for {}; there is none of{}\nname one: --map FILE.ron", against.display(), tried.concat())
    })
}

/// A mapping's pipeline is a path from the project's root: the folder the command runs in, or one above the mapping.
fn find_pipeline(pipeline: &str, map: &Path) -> Result<PathBuf, String> {
    let absolute = std::path::absolute(map).unwrap_or_else(|_| map.to_owned());
    let here = PathBuf::from(pipeline);
    let above = absolute.ancestors().skip(1).map(|folder| folder.join(pipeline));
    std::iter::once(here).chain(above).find(|path| path.is_file()).ok_or_else(|| {
        format!("the mapping's pipeline {pipeline} is not found from here; name it: cmaec verify PIPELINE --against …")
    })
}
