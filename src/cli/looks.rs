//! `cmaec show patches`, `neighbours`, `map` and `reconstructions`: what a trained network makes of pictures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cmae::eval::features::{self, FeaturesError, Made};
use cmae::eval::looks::looks;
use cmae::eval::map::{MAX_POINTS, neighbour_map};
use cmae::eval::neighbours::{ASKING, NEAREST, sheet};
use cmae::eval::pictures::write_png;
use cmae::eval::{Judge, Pass, judge};
use cmae::ranks;
use cmae::report;
use cmae::run::destination::{Kind, destination};
use cmae::run::{RunFolder, Started};
use cmae::spec::ReconstructionsSpec;
use cmae::train::reconstruct;
use image::RgbImage;

use super::output::outln;
use super::passes::Passes;
use super::pipeline::{self, Engine, Options};
use super::trained::{self, Trained};
use super::views::Drawing;

/// Draws the features of patches and the heads of the last attention of the newest checkpoint of `run`.
pub fn patches(run: &Path, drawing: &Drawing, engine: &Engine) -> Result<(), String> {
    // Before a folder is listed, which starts threads too.
    pipeline::start_threads(None, 1)?;
    let trained = trained::load(run)?;
    let data = data(&trained, drawing);
    let source = trained.named(&data)?;
    let output = to(&trained, drawing, "patches")?;
    let alone = ranks::alone();
    let backend = engine.open::<f32>(&*alone)?;
    let (program, step) = (&trained.program, trained.step);
    let mut session = backend.open(program, trained.arena).map_err(|error| error.to_string())?;
    let drawn = looks(&mut *session, program, &source, drawing.count().unwrap_or(ASKING));
    let drawn = drawn.map_err(|error| error.to_string())?;
    let shares: Vec<String> = drawn.explained.iter().map(|share| format!("{:.0} %", 100.0 * share)).collect();
    outln!("after {step} steps, pictures of {data}; from left to right:");
    outln!("  the picture as the network takes it in");
    outln!("  features of its patches: their first three principal components, {} of the variance", shares.join(", "));
    if drawn.heads > 0 {
        let who = if drawn.asks_first { "its first token" } else { "all its patches on average" };
        outln!("  the {} heads of the last attention: bright where {who} looks", drawn.heads);
    }
    written(&output, &drawn.image, drawn.count)
}

/// Draws pictures with those whose features are nearest, as the newest checkpoint of `run` has them.
pub fn neighbours(run: &Path, drawing: &Drawing, engine: &Engine) -> Result<(), String> {
    if drawing.count().is_some() {
        return Err(format!("neighbours are shown of {ASKING} pictures\nhelp: leave --count out"));
    }
    pipeline::start_threads(None, 1)?;
    let trained = trained::load(run)?;
    let evaluation = trained.program.spec.evaluate.evaluations.first().cloned().ok_or_else(|| {
        let name = &trained.program.spec.name;
        format!("pipeline `{name}` judges no features, so that no bank is known\nhelp: add `evaluate {{ features = …  knn(features) }}` to it")
    })?;
    let [bank, queries] = evaluation.sources().map(|name| format!("data.{name}"));
    let bank = trained.named(&bank)?;
    let queries = trained.named(drawing.data().unwrap_or(&queries))?;
    let output = to(&trained, drawing, "neighbours")?;
    let alone = ranks::alone();
    let backend = engine.open::<f32>(&*alone)?;
    let (program, step) = (&trained.program, trained.step);
    let mut session = backend.open(program, trained.arena).map_err(|error| error.to_string())?;
    let judge = Judge::new(vec![evaluation], bank, queries, alone.clone()).map_err(|error| error.to_string())?;
    if let Some(why) = judge.no_labels() {
        return Err(format!("{why}, so that no bank is looked through\nhelp: --data PATH with labelled pictures"));
    }
    let mut passes = Passes::watch(&*alone)?;
    let found = judge.near(&mut *session, program, &mut |pass: Pass<'_>| passes.look(pass));
    drop(passes);
    let found = found.map_err(|error| error.to_string())?;
    let (bank, queries) = judge.sources();
    let drawn = sheet(&found, bank, queries).map_err(|error| error.to_string())?;
    outln!("after {step} steps, pictures of {} with the {NEAREST} of {} that are nearest:", queries.name, bank.name);
    for near in &found {
        let nearest: Vec<String> =
            near.nearest.iter().map(|(other, cosine)| format!("{} {cosine:.4}", bank.source.name(*other))).collect();
        outln!("  {}: {}", queries.source.name(near.asks), nearest.join(", "));
    }
    if drawn.same.1 > 0 {
        outln!("{} of {} neighbours are of the same class (framed green), the others red", drawn.same.0, drawn.same.1);
    }
    written(&output, &drawn.image, found.len())
}

/// Puts the features of the newest checkpoint of `run` in the plane by t-SNE: into the run's report.
pub fn map(run: &Path, drawing: &Drawing, engine: &Engine) -> Result<(), String> {
    if drawing.draws() {
        return Err("the map is drawn in the run's report\nhelp: leave -o and --count out".to_owned());
    }
    pipeline::start_threads(None, 1)?;
    let trained = trained::load(run)?;
    let folder = RunFolder::open(run).map_err(|error| error.to_string())?;
    let data = data(&trained, drawing);
    let source = trained.source(&data)?;
    let backend = engine.open::<f32>(&*ranks::alone())?;
    let (program, step) = (&trained.program, trained.step);
    let no_features =
        || format!("pipeline `{}` has no features\nhelp: add `evaluate {{ features = … }}` to it", program.spec.name);
    let graph = program.features.as_ref().ok_or_else(no_features)?;
    // Of a source in the order of its classes each is shown by its share.
    let count = source.len().min(MAX_POINTS);
    let images: Arc<[usize]> = (0..count).map(|at| at * source.len() / count).collect();
    let batches =
        judge::batches(program, graph, &["features".to_owned()], &source, images).map_err(|error| error.to_string())?;
    let mut session = backend.open(program, trained.arena).map_err(|error| error.to_string())?;
    let mut made = Made::default();
    let keep = |part: Made| -> Result<(), FeaturesError> {
        made.append(&part);
        Ok(())
    };
    features::extract(&mut *session, graph, batches, keep).map_err(|error| error.to_string())?;
    let map = neighbour_map(&made.features, &made.labels, source.classes(), step);
    let map = map.ok_or("fewer than four pictures, or features that are no numbers: there is no map of them")?;
    map.write(&folder.neighbour_map()).map_err(|error| error.to_string())?;
    let written = report::write(run, None).map_err(|error| error.to_string())?;
    outln!("after {step} steps, {} pictures of {data} by t-SNE: {}", map.points.len(), written.path.display());
    Ok(())
}

/// Draws what the newest checkpoint of `run` makes of hidden patches: as its pipeline hides them, or with the changes of `options`, such as
/// another share.
pub fn reconstructions(run: &Path, drawing: &Drawing, engine: &Engine, options: &Options) -> Result<(), String> {
    pipeline::start_threads(None, 1)?;
    let mut trained = trained::load(run)?;
    let changes = options.overrides();
    if !changes.is_empty() {
        let folder = RunFolder::open(run).map_err(|error| error.to_string())?;
        let started = Started::read(&folder).map_err(|error| error.to_string())?;
        let before = started.map(|started| started.overrides).unwrap_or_default();
        let sets = before.into_iter().chain(changes).collect();
        let changed = Options { sets, weights: Vec::new(), ..options.clone() };
        let program = changed.compile(&run.join("pipeline.cmae"))?.0.program;
        if program.layout != trained.program.layout {
            return Err("with these settings the pipeline has other tensors than the run\nhelp: --set mask_ratio=60% and the like change \
                        what is hidden alone"
                .to_owned());
        }
        trained.program = program;
    }
    let spec = trained.program.spec.evaluate.reconstructions.clone().ok_or_else(|| {
        let name = &trained.program.spec.name;
        format!(
            "pipeline `{name}` reconstructs nothing\nhelp: add `reconstructions(…)` to its `evaluate`: docs/language.md"
        )
    })?;
    let data = drawing.data().map_or_else(|| format!("data.{}", spec.source), str::to_owned);
    let spec = ReconstructionsSpec { count: drawing.count().unwrap_or(spec.count), ..spec };
    let source = trained.named(&data)?;
    let (output, named) = to(&trained, drawing, "reconstructions")?;
    let backend = engine.open::<f32>(&*ranks::alone())?;
    let (program, step) = (&trained.program, trained.step);
    let mut session = backend.open(program, trained.arena).map_err(|error| error.to_string())?;
    reconstruct::write(&mut *session, program, &spec, &source, &output).map_err(|error| error.to_string())?;
    outln!("after {step} steps, pictures of {data}; from left to right: original, masked, reconstructed");
    outln!("{}", named.display());
    Ok(())
}

/// The pictures that are asked for, by themselves those that the first evaluation judges.
fn data(trained: &Trained, drawing: &Drawing) -> String {
    let own = trained.program.spec.evaluate.evaluations.first().map(|evaluation| evaluation.sources()[1]);
    drawing.data().map_or_else(|| format!("data.{}", own.unwrap_or("train")), str::to_owned)
}

/// Where the sheet goes, and what messages call it.
fn to(trained: &Trained, drawing: &Drawing, what: &str) -> Result<(PathBuf, PathBuf), String> {
    let default = PathBuf::from(format!("{}-{what}.png", trained.program.spec.name));
    let named = drawing.output().map_or(default, Path::to_owned);
    let output = destination(&named, Kind::Picture, None).map_err(|error| error.to_string())?;
    Ok((output, named))
}

fn written((output, named): &(PathBuf, PathBuf), image: &RgbImage, count: usize) -> Result<(), String> {
    write_png(output, image).map_err(|error| format!("cannot write {}: {error}", named.display()))?;
    let (width, height) = image.dimensions();
    outln!("{}: {count} pictures, {width} × {height} pixels", named.display());
    Ok(())
}
