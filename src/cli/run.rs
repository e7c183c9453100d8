//! `cmaec run`: trains a pipeline.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cmae::backend::Element;
use cmae::diag::{Code, Diagnostic};
use cmae::graph::build::Compiled;
use cmae::report;
use cmae::run::RunFolder;
use cmae::source::Sources;
use cmae::spec::Precision;
use cmae::train::{Ended, ImportedRun, SessionError, SessionOptions, Watch, session};

use super::output::outln;
use super::pipeline::{self, Options, backend_for};
use super::progress::Progress;
use super::report::Reporting;
use super::trained::{self, Trained};
use super::tui::{self, Tui};

/// Trains a pipeline, and writes checkpoints, metrics and pictures to a folder.
///
/// Ctrl-C saves and leaves; `--resume` takes the run up again, to the same bytes as if it had not stopped.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "PIPELINE")]
    file: PathBuf,
    /// The run's folder. By default runs/NAME, or with a number behind where that holds a run already.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continues the run in the folder from its newest checkpoint; starts afresh where there is none.
    #[arg(long)]
    resume: bool,
    /// With --resume: goes on with settings that the run was not started with; each that differs is told.
    #[arg(long, requires = "resume")]
    accept_changes: bool,
    /// Runs once for each value: `--sweep mask_ratio=60%,75%`. Several sweeps give every combination, each in a folder
    /// of its own below the run's.
    #[arg(long = "sweep", value_name = "NAME=A,B")]
    sweeps: Vec<String>,
    /// What runs the graph: auto, cpu, dfdx or dfdx-cuda.
    #[arg(long, default_value = "auto")]
    backend: String,
    /// Threads that compute, and as many that load images. By default one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// A run whose weights an imported pipeline takes: `--with tok=runs/vq_tokenizer`. May be given several times.
    #[arg(long = "with", value_name = "NAME=RUN")]
    imports: Vec<String>,
    /// Shows live curves in the terminal; `q` saves and leaves.
    #[arg(long)]
    tui: bool,
    #[command(flatten)]
    options: Options,
}

pub fn main(args: Args) -> Result<(), String> {
    if args.tui {
        tui::check()?;
    }
    let threads = pipeline::start_threads(args.threads)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        // A second signal does not wait for the step to end.
        if flag.swap(true, Ordering::Relaxed) {
            tui::restore();
            std::process::exit(130);
        }
        // The terminal's view says it itself.
        if !tui::is_active() {
            eprintln!("saving after this step; once more leaves at once");
        }
    })
    .map_err(|error| format!("signals cannot be caught: {error}"))?;
    let combinations = combinations(&args.sweeps)?;
    // All are compiled before the first is run: a mistake in the last shows now.
    let mut runs = Vec::new();
    for combination in &combinations {
        let options =
            Options { sets: args.options.sets.iter().chain(combination).cloned().collect(), ..args.options.clone() };
        let (compiled, sources) = options.compile(&args.file)?;
        runs.push((combination.join(","), compiled, sources));
    }
    let imports = args.imports.iter().map(|text| imported(text)).collect::<Result<Vec<_>, _>>()?;
    let base = match &args.out {
        Some(out) => out.clone(),
        None => default_folder(Path::new("runs"), &runs[0].1.program.spec.name, args.resume),
    };
    let text =
        std::fs::read_to_string(&args.file).map_err(|error| format!("cannot read {}: {error}", args.file.display()))?;
    let mut folders = Vec::new();
    for ((name, compiled, sources), combination) in runs.iter().zip(&combinations) {
        let out = if name.is_empty() { base.clone() } else { base.join(name) };
        let run = match compiled.program.spec.train.precision {
            Precision::F32 | Precision::Bf16 => train::<f32>,
            Precision::F64 => train::<f64>,
        };
        let overrides = args.options.sets.iter().chain(combination).cloned().collect();
        let options = SessionOptions {
            threads,
            resume: args.resume,
            accept_changes: args.accept_changes,
            imports: imports.clone(),
            overrides,
        };
        run(compiled, sources, &text, &out, &args, &options, &stop)?;
        folders.push(out);
    }
    if folders.len() > 1 {
        // What a sweep is for.
        let written = report::compare(&folders, &base.join(report::FILE)).map_err(|error| error.to_string())?;
        eprintln!("side by side: {}", written.path.display());
    }
    Ok(())
}

fn train<E: Element>(
    compiled: &Compiled,
    sources: &Sources,
    text: &str,
    out: &Path,
    args: &Args,
    options: &SessionOptions,
    stop: &Arc<AtomicBool>,
) -> Result<(), String> {
    let program = &compiled.program;
    let mut backend = backend_for::<E>(&args.backend, program)?;
    let folder = RunFolder::open_for_training(out, args.resume).map_err(|error| error.to_string())?;
    let view: Box<dyn Watch> = match args.tui {
        true => Box::new(Tui::open(&program.spec.name, folder.metrics(), stop.clone())?),
        false => Box::new(Progress::new(stop.clone())),
    };
    let mut watch = Reporting::new(view, |pictures| {
        let warnings = compiled.warnings(Some(pictures));
        (!warnings.is_empty()).then(|| pipeline::draw(&warnings, sources))
    });
    watch.say(&format!(
        "{}: {:.2} M trained parameters, batches of {}, backend {}, {} threads, in {}",
        program.spec.name,
        program.layout.trained_len as f64 / 1e6,
        program.spec.batch_text(),
        backend.name(),
        options.threads,
        out.display(),
    ));
    let ended = session::run(program, text, &mut *backend, &folder, options, &mut watch);
    // Let go first: a folder that is in use is that of a run that goes on.
    drop(folder);
    // Where the folder could not be written to, a report cannot either.
    if !matches!(ended, Err(SessionError::Run(_))) {
        watch.last(out);
    }
    match ended.map_err(|error| explain(error, compiled, sources))? {
        Ended::Finished => {
            outln!("{}", out.display());
            Ok(())
        }
        Ended::Stopped { step } => Err(format!(
            "stopped and saved after step {step}; go on with: cmaec run {} --out {} --resume",
            args.file.display(),
            out.display()
        )),
    }
}

/// `NAME=RUN` with the run loaded.
fn imported(text: &str) -> Result<ImportedRun, String> {
    let Some((alias, run)) = text.split_once('=') else {
        return Err(format!("`--with {text}` names no run\nhelp: --with {text}=RUN"));
    };
    let Trained { program, arena, .. } = trained::load(Path::new(run))?;
    Ok(ImportedRun { alias: alias.to_owned(), run: run.to_owned(), layout: program.layout, arena })
}

/// An error of the data is shown at its place in the file.
fn explain(error: SessionError, compiled: &Compiled, sources: &Sources) -> String {
    let SessionError::Data { source_name, error } = error else { return error.to_string() };
    let help = error.help();
    let diagnostic = Diagnostic::new(Code::DataNotFound, error.to_string()).maybe_help(help);
    let diagnostic = match compiled.source_spans.iter().find(|(name, _)| *name == source_name) {
        Some((_, span)) => diagnostic.label(*span, format!("`data.{source_name}`")),
        None => diagnostic,
    };
    pipeline::draw(&[diagnostic], sources)
}

/// `NAME=VALUE` of every combination of the sweeps' values; one empty combination without sweeps.
fn combinations(sweeps: &[String]) -> Result<Vec<Vec<String>>, String> {
    let mut all = vec![Vec::new()];
    for sweep in sweeps {
        let Some((name, values)) = sweep.split_once('=') else {
            return Err(format!("`--sweep {sweep}` has no values\nhelp: --sweep {sweep}=A,B"));
        };
        let values: Vec<String> = values.split(',').map(|value| format!("{}={}", name.trim(), value.trim())).collect();
        all = all
            .iter()
            .flat_map(|before: &Vec<String>| {
                values.iter().map(move |value| before.iter().cloned().chain([value.clone()]).collect())
            })
            .collect();
    }
    Ok(all)
}

/// runs/NAME, runs/NAME-2, …: the first that holds no run; to resume, the last that holds one.
fn default_folder(runs: &Path, name: &str, resume: bool) -> PathBuf {
    let folder = |number: usize| runs.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
    let free = (1..).find(|number| !folder(*number).join("program.ron").exists()).unwrap_or(1);
    if resume && free > 1 { folder(free - 1) } else { folder(free) }
}
