//! Every pipeline at a reduced size (`tests/methods.ron`), on `cpu`; some with dfdx: `cargo test methods::`. On `xla` when asked
//! for: `golden` and `xla_session` hold its steps against others'.
//!
//! Where the loss is anchored (pixels, ids, other samples), it overfits one fixed batch. Self-distillation has no such floor:
//! there losses stay finite, parameters move, and the features of digits it never saw do not collapse.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cmae::backend::{Compute, Session};
use cmae::data::evaluation::EvalBatches;
use cmae::data::loader::{Loader, LoaderOptions};
use cmae::data::source::{self, Source};
use cmae::diag::{Diagnostics, render};
use cmae::eval::collapse::collapse;
use cmae::eval::features::Features;
use cmae::graph::Program;
use cmae::source::Sources;
use cmae::spec::Clock;
use cmae::tensor::{Element, InputValue, OutputValue, Pictures};
use cmae::train::imports::{self, ImportedRun};
use cmae::train::{Trainer, init};
use serde::Deserialize;

use crate::command::{pipelines, root};

/// Pipelines that are trained with dfdx too, whose steps `golden` holds for all: some with states, queues and averages.
const WITH_DFDX: [&str; 4] = ["cmae_vitb", "dino_vitb", "quickstart", "vq_tokenizer"];

/// A plugin's compiler takes minutes for them.
const HERE: [&str; 2] = ["cpu", "dfdx"];

#[derive(Deserialize)]
pub struct Page {
    /// For every pipeline, before its own.
    common: Vec<String>,
    /// Pipelines that are another at a larger or smaller size.
    sizes: Vec<String>,
    pub methods: Vec<Method>,
}

#[derive(Deserialize)]
pub struct Method {
    pub pipeline: String,
    #[serde(default)]
    set: Vec<String>,
    steps: u64,
    learns: Learns,
}

#[derive(Deserialize)]
enum Learns {
    /// The total loss ends below this share of what it starts with.
    Overfits(f64),
    /// (deviation of the features in shares of that of features spread evenly, effective rank): both at least.
    Distils(f64, f64),
}

pub fn page() -> Page {
    let text = std::fs::read_to_string(root("tests/methods.ron")).expect("it is in the repository");
    ron::from_str(&text).unwrap_or_else(|error| panic!("tests/methods.ron: {error}"))
}

pub fn compile(pipeline: &str, sets: &[String]) -> Program {
    compile_file(&root(&format!("pipelines/{pipeline}.cmae")), sets)
}

pub fn compile_file(path: &Path, sets: &[String]) -> Program {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let sets: Vec<_> = sets.iter().map(|set| set.as_str().into()).collect();
    match cmae::compile(&mut sources, &mut diagnostics, path, &sets) {
        Ok(compiled) => compiled.program,
        Err(_) => panic!("{}:\n{}", path.display(), render(diagnostics.list(), &sources, false)),
    }
}

/// Untrained weights stand for the runs that imported modules come from.
fn imported(program: &Program, sets: &[String]) -> Vec<ImportedRun> {
    let run = |import: &cmae::spec::ImportSpec| {
        let prefix = format!("{}.", import.alias);
        let own: Vec<String> = sets.iter().filter_map(|set| set.strip_prefix(&prefix)).map(str::to_owned).collect();
        let layout = compile(&import.pipeline, &own).layout;
        let arena = init::initialise(&layout, 1);
        ImportedRun { alias: import.alias.clone(), run: "untrained".to_owned(), layout, arena }
    };
    program.spec.imports.iter().map(run).collect()
}

fn train_source(program: &Program) -> Arc<dyn Source> {
    let spec = program.spec.data.source("train").expect("every pipeline has one");
    source::open(spec, program.spec.data.channels, program.spec.data.max_pixels).expect("digits are embedded")
}

pub fn batch(program: &Program) -> Vec<(String, InputValue)> {
    batch_as(program, Pictures::Floats)
}

/// The first batch that a loader makes of a pipeline's own source, pictures in this form.
pub fn batch_as(program: &Program, pictures: Pictures) -> Vec<(String, InputValue)> {
    let options = LoaderOptions { seed: 3, threads: 1, prefetch: 1, max_broken: 0.0, pictures };
    let (views, inputs) = (&program.spec.views, &program.train.inputs);
    let mut loader = Loader::start(train_source(program), views, inputs, program.spec.data.batch_size, options, 0..1)
        .unwrap_or_else(|error| panic!("{}: {error}", program.spec.name));
    let batch =
        loader.next_batch().expect("there is one").unwrap_or_else(|error| panic!("{}: {error}", program.spec.name));
    batch.inputs
}

/// Features of 64 digits of the other half.
fn features<E: Element>(program: &Program, session: &mut dyn Session<E>) -> Features {
    let graph = program.features.as_ref().expect("every pipeline judges its features");
    let spec = program.spec.data.source("val").expect("every pipeline has one");
    let source =
        source::open(spec, program.spec.data.channels, program.spec.data.max_pixels).expect("digits are embedded");
    let batches = EvalBatches::new(source, &program.spec.views, &graph.inputs, 0).expect("a recipe fits digits");
    let wanted = ["features".to_owned()];
    let mut features = Features::default();
    let count = 64 / batches.batch_size();
    for batch in batches.take(count) {
        let batch = batch.expect("no digit is broken");
        let found = session.evaluate(graph, &batch.inputs, &wanted).expect("it runs");
        let OutputValue::Float(tensor) = &found[0] else { panic!("features are floats") };
        features.rows += tensor.shape[0];
        features.dim = tensor.shape[1];
        features.data.extend(tensor.data.iter().map(|v| v.to_f64() as f32));
    }
    features
}

/// What is set for a pipeline, and no import.
pub fn sets_of(page: &Page, method: &Method) -> Vec<String> {
    page.common.iter().chain(&method.set).cloned().collect()
}

/// The tensors that a pipeline starts with.
pub fn start<E: Element>(program: &Program, sets: &[String]) -> Vec<E> {
    let mut arena = init::initialise(&program.layout, 1);
    imports::fill(program, &mut arena, &imported(program, sets)).unwrap_or_else(|error| panic!("{error}"));
    arena
}

/// A trainer of a run of `steps` steps, on the backend of that name, that starts with `tensors`.
pub fn trainer_from<'p, E: Compute>(
    program: &'p Program,
    backend: &str,
    steps: u64,
    tensors: Vec<E>,
) -> Trainer<'p, E> {
    let backend = E::backend(backend).expect("this build has it");
    let session = backend.open(program, tensors).unwrap_or_else(|error| panic!("{}: {error}", program.spec.name));
    Trainer::new(program, session, Clock::new(1.0, steps))
}

/// The same with the pipeline's own initial values.
pub fn trainer<'p, E: Compute>(program: &'p Program, backend: &str, steps: u64) -> Trainer<'p, E> {
    trainer_from(program, backend, steps, init::initialise(&program.layout, program.spec.train.seed))
}

fn learns(page: &Page, method: &Method, backend: &str) {
    let sets = sets_of(page, method);
    // What an import sets is known by its prefix; the common sets are for the pipeline alone.
    let name = &method.pipeline;
    let program = compile(name, &sets);
    let mut start = init::initialise(&program.layout, program.spec.train.seed);
    imports::fill(&program, &mut start, &imported(&program, &sets)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut trainer = trainer_from::<f32>(&program, backend, method.steps, start.clone());
    let inputs = batch(&program);
    let mut totals = Vec::new();
    for _ in 0..method.steps {
        let report = trainer.step(&inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
        totals.push(report.results.total);
    }
    let (first, last) = (totals[0], totals[totals.len() - 1]);
    assert!(totals.iter().all(|total| total.is_finite()), "{name}: {totals:?}");
    let reached = program.train.reached(&program.layout);
    let mut reached =
        reached.iter().enumerate().filter(|(_, reached)| **reached).map(|(i, _)| program.layout.range(i)).peekable();
    assert!(reached.peek().is_some(), "{name}: no gradient arrives anywhere");
    let tensors = trainer.tensors().expect("they are there");
    let moved = reached.all(|range| start[range.clone()] != tensors[range]);
    assert!(moved, "{name}: a parameter with a gradient never moved");
    match method.learns {
        Learns::Overfits(share) => {
            println!("{name}: total loss {first:.4} → {last:.4}, {:.2} of it, at most {share}", last / first);
            assert!(last < share * first, "{name}: {first} → {last}");
        }
        Learns::Distils(std, rank) => {
            let found = collapse(&features(&program, &mut *trainer.session)).expect("features are finite");
            let spread = found.std / found.uniform_std;
            println!(
                "{name}: deviation {spread:.2}, at least {std}; rank {:.1}, at least {rank}",
                found.effective_rank
            );
            assert!(spread >= std && found.effective_rank >= rank, "{name}: {found:?}");
        }
    }
}

/// All methods of a share of the page, so that two cores take them side by side.
fn share(part: usize, parts: usize, backends: &[&str]) {
    let page = page();
    for &backend in backends {
        let trained = |method: &&Method| backend != "dfdx" || WITH_DFDX.contains(&method.pipeline.as_str());
        let mine = page.methods.iter().skip(part).step_by(parts).filter(trained);
        // All are tried, so that one run tells of every pipeline that fails.
        let fails = |method: &&Method| std::panic::catch_unwind(|| learns(&page, method, backend)).is_err();
        let failed: Vec<&str> = mine.filter(fails).map(|method| method.pipeline.as_str()).collect();
        assert!(failed.is_empty(), "{backend}: {failed:?}");
    }
}

#[test]
fn every_pipeline_learns_first_half() {
    share(0, 2, &HERE);
}

#[test]
fn every_pipeline_learns_second_half() {
    share(1, 2, &HERE);
}

#[test]
#[ignore = "minutes: CMAE_PJRT_PLUGIN=FILE cargo test -- --ignored every_pipeline_learns_on_xla"]
fn every_pipeline_learns_on_xla() {
    share(0, 1, &[crate::xla::backend().expect("it needs a plugin")]);
}

#[test]
fn the_page_names_every_pipeline() {
    let page = page();
    let named: BTreeSet<String> = page.methods.into_iter().map(|method| method.pipeline).chain(page.sizes).collect();
    for name in pipelines() {
        assert!(named.contains(&name), "tests/methods.ron does not train {name}");
    }
}
