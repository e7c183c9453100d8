//! `cmaec run`: trains a pipeline.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cmae::backend::Compute;
use cmae::backend::xla::Devices;
use cmae::diag::Diagnostic;
use cmae::graph::Program;
use cmae::graph::build::Compiled;
use cmae::ranks::{self, Ranks};
use cmae::report;
use cmae::run::numbered::{first_free, newest};
use cmae::run::{RunError, RunFolder, Started, Sweep, SweepFolder, shell};
use cmae::source::Sources;
use cmae::spec::{MicroBatch, Precision};
use cmae::train::{Ended, ImportedRun, SessionError, SessionOptions, Watch, session};

use super::output::{self, errln};
use super::pipeline::{self, AUTO, Engine, Options, Share};
use super::progress::Progress;
use super::report::Reporting;
use super::signals;
use super::sweep::{self, Row};
use super::together;
use super::trained::{self, Trained};
use super::tui::{self, Tui};
use super::weights;

/// Where runs go that are told no folder.
const RUNS: &str = "runs";
/// Trains a pipeline, and writes checkpoints, metrics and pictures to a folder.
///
/// Ctrl-C saves and leaves, as do SIGTERM and a terminal that is closed (not under `nohup`, and a pipe without a reader stops
/// nothing); `--resume` takes the run up again, to the same bytes as if it had not stopped.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "PIPELINE")]
    file: PathBuf,
    /// The run's folder. By default runs/NAME, or with a number behind where that is taken.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continues the run, or the sweep, in the folder (by default the newest) from its newest checkpoint; starts afresh where
    /// there is none. Overrides, sweeps and `--with` are those that it was started with; a `--set` replaces one of them.
    #[arg(long)]
    resume: bool,
    /// With --resume: goes on with settings that the run was not started with; each that differs is told.
    #[arg(long, requires = "resume")]
    accept_changes: bool,
    /// Runs once for each value: `--sweep mask_ratio=60%,75%`. Several sweeps give every combination, each in a folder
    /// of its own below the sweep's. One that fails does not stop the others; the last lines are a table of all.
    #[arg(long = "sweep", value_name = "NAME=A,B")]
    sweeps: Vec<String>,
    #[command(flatten)]
    engine: Engine,
    #[command(flatten)]
    share: Share,
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
    together::main(|ranks| train(args, ranks))
}

/// As one of `ranks`. Gives what to say of a run that was stopped.
fn train(args: Args, ranks: &Arc<dyn Ranks>) -> Result<Option<String>, String> {
    if args.tui {
        tui::check()?;
    }
    let threads = pipeline::start_threads(args.threads, ranks.local())?;
    let stop = Arc::new(AtomicBool::new(false));
    // A launcher passes a signal on to all ranks.
    let told = if ranks.rank() == 0 { "saving after this step; once more leaves at once" } else { "" };
    signals::watch(stop.clone(), told)?;
    let before = if ranks.rank() == 0 { Before::read(&args)? } else { Before::default() };
    let before = before.of_first(&**ranks);
    let all = Sweep {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sweeps: before.sweeps(&args.sweeps)?,
        overrides: merged(&before.overrides, &args.options.overrides()),
        imports: if args.imports.is_empty() { before.imports } else { args.imports.clone() },
        runs: Vec::new(),
    };
    // All are compiled before the first is run: a mistake in the last shows now.
    let mut runs = Vec::new();
    for combination in sweep::combinations(&all.sweeps)? {
        let sets: Vec<String> = all.overrides.iter().chain(&combination).cloned().collect();
        let (compiled, sources) =
            Options { sets: sets.clone(), weights: Vec::new(), ..args.options.clone() }.compile(&args.file)?;
        runs.push(Planned { combination, sets, compiled, sources });
    }
    // As it was compiled, from a file or from the binary.
    let (file, read) = (args.file.display().to_string(), runs[0].sources.iter());
    let text = read.map(|source| (&source.name, &source.text)).find(|(name, _)| **name == file);
    let text = text.expect("each run was compiled from it").1.clone();
    let job = Job { args: &args, text: &text, threads, stop: &stop, imports: &all.imports, ranks };
    if ranks.count() > 1 && !all.sweeps.is_empty() {
        return Err(format!(
            "a sweep is made by one process, and these are {} ranks (help: a command for each run)",
            ranks.count()
        ));
    }
    if ranks.rank() > 0 {
        return match job.train(&runs[0], None)? {
            Ended::Finished => Ok(None),
            // Rank 0 says how to go on.
            Ended::Stopped { .. } => Ok(Some(String::new())),
        };
    }
    let place = Place { out: before.folder, name: runs[0].compiled.program.spec.name.clone() };
    match (&runs[..], all.sweeps.is_empty()) {
        ([run], true) => {
            let (out, folder) = place.open(|path| RunFolder::open_for_training(path, args.resume))?;
            match job.train(run, Some(folder))? {
                Ended::Finished => output::offer(format_args!("{}\n", out.display())),
                Ended::Stopped { step } => return Ok(Some(job.stopped(step, &out))),
            }
            Ok(None)
        }
        (runs, _) => {
            sweep::check_distinct(runs.iter().map(|run| (&run.combination[..], &run.compiled.program)))?;
            let names = runs.iter().map(|run| sweep::folder_name(&run.combination)).collect();
            let all = Sweep { runs: names, ..all.clone() };
            let (base, folder) = place.open(|path| SweepFolder::open(path, args.resume, all.clone()))?;
            let ended = job.train_all(runs, &base);
            folder.leave();
            ended.map(|()| None)
        }
    }
}

/// What `--resume` takes up: the folder, and what it was started with.
#[derive(Default)]
struct Before {
    /// As `--out` names it, or the newest of the pipeline.
    folder: Option<PathBuf>,
    overrides: Vec<String>,
    imports: Vec<String>,
    sweeps: Vec<String>,
    /// Whether a run was started there, which is no sweep.
    is_run: bool,
}

impl Before {
    fn read(args: &Args) -> Result<Before, String> {
        let folder = match (&args.out, args.resume) {
            (Some(out), _) => Some(out.clone()),
            (None, true) => newest(Path::new(RUNS), &args.options.pipeline_name(&args.file)?),
            (None, false) => None,
        };
        let mut before = Before { folder, ..Before::default() };
        let Some(folder) = before.folder.as_deref().filter(|_| args.resume) else { return Ok(before) };
        if let Some(sweep) = Sweep::read(folder).map_err(|error| error.to_string())? {
            (before.overrides, before.imports, before.sweeps) = (sweep.overrides, sweep.imports, sweep.sweeps);
        } else if let Ok(run) = RunFolder::open(folder) {
            before.is_run = true;
            if let Some(started) = Started::read(&run).map_err(|error| error.to_string())? {
                (before.overrides, before.imports) = (started.overrides, started.imports);
            }
        }
        Ok(before)
    }

    /// What rank 0 has read, on all ranks: a folder need not be seen by the others.
    fn of_first(self, ranks: &dyn Ranks) -> Before {
        if ranks.count() == 1 {
            return self;
        }
        let told = |list: &[String]| {
            let text = serde_json::to_string(list).expect("a list of texts is JSON");
            serde_json::from_str(&ranks::text_of_first(ranks, &text)).expect("it is the text of a list")
        };
        let (overrides, imports, sweeps) = (told(&self.overrides), told(&self.imports), told(&self.sweeps));
        Before { overrides, imports, sweeps, ..self }
    }

    /// The sweeps that were begun, which must be those that are `given`, if any are.
    fn sweeps(&self, given: &[String]) -> Result<Vec<String>, String> {
        let folder = self.folder.as_deref().unwrap_or(Path::new(RUNS)).display();
        match (given, &self.sweeps[..]) {
            (given, _) if self.is_run && !given.is_empty() => Err(format!(
                "{folder} holds a run, not a sweep (help: leave `--sweep` out, or name another folder with --out)"
            )),
            ([], begun) => Ok(begun.to_vec()),
            (given, []) => Ok(given.to_vec()),
            (given, begun) if given == begun => Ok(given.to_vec()),
            (_, begun) => {
                let begun: Vec<String> = begun.iter().map(|sweep| format!("--sweep {}", shell::word(sweep))).collect();
                Err(format!(
                    "{folder} holds another sweep: {} (help: leave `--sweep` out to go on with it, or name another folder with \
                     --out)",
                    begun.join(" ")
                ))
            }
        }
    }
}

/// Overrides of before and those given now, which come after them and replace those of the same names.
fn merged(before: &[String], given: &[String]) -> Vec<String> {
    let name = |set: &String| set.split_once('=').map_or("", |(name, _)| name.trim()).to_owned();
    let given_names: Vec<String> = given.iter().map(name).collect();
    before.iter().filter(|set| !given_names.contains(&name(set))).chain(given).cloned().collect()
}

/// Where a run or a sweep goes.
struct Place {
    out: Option<PathBuf>,
    name: String,
}

impl Place {
    /// Opens the folder that was named or is taken up, or else the first that is free.
    fn open<T>(&self, open: impl Fn(&Path) -> Result<T, RunError>) -> Result<(PathBuf, T), String> {
        let opened = match &self.out {
            Some(out) => open(out).map(|folder| (out.clone(), folder)),
            None => first_free(Path::new(RUNS), &self.name, open),
        };
        opened.map_err(|error| error.to_string())
    }
}

/// A run before it starts.
struct Planned {
    /// What is its own in a sweep.
    combination: Vec<String>,
    /// All its overrides.
    sets: Vec<String>,
    compiled: Compiled,
    sources: Sources,
}

/// What is the same for all runs of a command.
struct Job<'a> {
    args: &'a Args,
    text: &'a str,
    threads: usize,
    stop: &'a Arc<AtomicBool>,
    /// `NAME=RUN` of each `--with`, or of when the run was started.
    imports: &'a [String],
    ranks: &'a Arc<dyn Ranks>,
}

impl Job<'_> {
    /// Trains each run of a sweep; one that fails does not keep the others from theirs.
    fn train_all(&self, runs: &[Planned], base: &Path) -> Result<(), String> {
        let mut rows = Vec::new();
        for run in runs {
            let folder = base.join(sweep::folder_name(&run.combination));
            let ended = RunFolder::open_for_training(&folder, self.args.resume).map_err(|error| error.to_string());
            let ended = ended.and_then(|opened| self.train(run, Some(opened)));
            if let Ok(Ended::Stopped { step }) = ended {
                return Err(self.stopped(step, base));
            }
            let error = ended.err();
            if let Some(error) = &error {
                errln!("{error}");
            }
            rows.push(Row { folder, program: &run.compiled.program, error });
        }
        let begun: Vec<PathBuf> =
            rows.iter().map(|row| row.folder.clone()).filter(|folder| RunFolder::open(folder).is_ok()).collect();
        if begun.len() > 1 {
            // What a sweep is for.
            match report::compare(&begun, &base.join(report::FILE)) {
                Ok(written) => errln!("side by side: {}", written.path.display()),
                Err(error) => errln!("warning: no report of all: {error}"),
            }
        }
        sweep::print_table(&rows);
        let failed: Vec<&Row<'_>> = rows.iter().filter(|row| row.error.is_some()).collect();
        if failed.is_empty() {
            output::offer(format_args!("{}\n", base.display()));
            return Ok(());
        }
        let names: Vec<String> = failed.iter().map(|row| sweep::name(&row.folder)).collect();
        Err(format!("{} of {} runs failed: {}", failed.len(), rows.len(), names.join(" ")))
    }

    /// In `folder`, which rank 0 has.
    fn train(&self, run: &Planned, folder: Option<RunFolder>) -> Result<Ended, String> {
        match run.compiled.program.spec.train.precision {
            Precision::F32 | Precision::Bf16 => self.train_in::<f32>(run, folder),
            Precision::F64 => self.train_in::<f64>(run, folder),
        }
    }

    fn train_in<E: Compute>(&self, run: &Planned, folder: Option<RunFolder>) -> Result<Ended, String> {
        let out = folder.as_ref().map(|folder| folder.path().to_owned());
        let ended = self.session::<E>(run, folder.as_ref());
        // A folder that is in use is that of a run that goes on.
        if let Some(folder) = folder {
            folder.leave();
        }
        let (ended, mut watch) = ended?;
        // Where the folder could not be written to, a report cannot either.
        if let Some(out) = out.filter(|_| !matches!(ended, Err(SessionError::Run(_)))) {
            watch.last(&out);
        }
        ended.map_err(|error| explain(error, &run.compiled, &run.sources))
    }

    /// The run, and what it was shown by; the error is of before it began.
    fn session<'r, E: Compute>(
        &self,
        run: &'r Planned,
        folder: Option<&RunFolder>,
    ) -> Result<(Result<Ended, SessionError>, Reporting<'r>), String> {
        let args = self.args;
        let mut backend = args.engine.open_for::<E>(&run.compiled.program, self.ranks, args.share.devices)?;
        let mut program = Program { ranks: self.ranks.count(), ..run.compiled.program.clone() };
        let kept = match folder.filter(|_| args.resume) {
            Some(folder) => kept_micro_batch(folder, &program)?,
            None => None,
        };
        together::start_with(&**self.ranks, &mut program, kept);
        let view: Box<dyn Watch> = match folder {
            Some(folder) if args.tui => Box::new(Tui::open(&program.spec.name, folder.metrics(), self.stop.clone())?),
            Some(_) => Box::new(Progress::new(self.stop.clone())),
            None => Box::new(together::Beside::new(self.ranks.rank(), self.stop.clone())),
        };
        let mut watch = Reporting::new(view, move |pictures| {
            let warnings = run.compiled.warnings(Some(pictures));
            (!warnings.is_empty()).then(|| pipeline::draw(&warnings, &run.sources))
        });
        if backend.name() == "xla" {
            watch.say("compiling the step for the device");
        }
        let (mut program, fit) = pipeline::fitted(&program, &mut *backend, self.ranks.local())?;
        together::fit_all(&**self.ranks, &mut program);
        // A checkpoint holds what was imported.
        let needs_imports = folder.is_some_and(|folder| !args.imports.is_empty() || !folder.holds_checkpoints());
        let options = self.options(run, ranks::any(&**self.ranks, needs_imports))?;
        watch.say(&format!(
            "{}: {:.2} M trained parameters, batches of {}, {}, {} threads, in {}",
            program.spec.name,
            program.layout.trained_len as f64 / 1e6,
            program.batch_text(),
            pipeline::engine_text(&*backend),
            options.threads,
            folder.map_or(Path::new("").display(), |folder| folder.path().display()),
        ));
        if program.sharded {
            watch.say(&format!("what the optimizer keeps is shared out over the {} ranks", program.ranks));
        }
        if let Some(fit) = &fit {
            watch.say(&format!("memory: {}", pipeline::memory_line(fit)));
            if let Some(larger) = fit.by_itself {
                watch.say(&format!(
                    "warning: micro-batches of {}, since other programs hold memory: by itself this machine takes {larger}, and \
                     results agree within rounding only",
                    fit.micro_batch
                ));
            }
        }
        let ended = session::run(&program, self.text, backend, folder, &options, &mut watch);
        Ok((ended, watch))
    }

    /// What the session takes of the command line.
    fn options(&self, run: &Planned, needs_imports: bool) -> Result<SessionOptions, String> {
        let imports = self.imports.iter().filter(|_| needs_imports).map(|text| imported(text));
        Ok(SessionOptions {
            threads: self.threads,
            resume: self.args.resume,
            accept_changes: self.args.accept_changes,
            imports: imports.collect::<Result<_, _>>()?,
            with: self.imports.to_vec(),
            overrides: run.sets.clone(),
            ranks: self.ranks.clone(),
        })
    }

    /// What to type to go on: overrides are in the folder, and taken from there.
    fn stopped(&self, step: u64, out: &Path) -> String {
        let args = self.args;
        let again = self.ranks.again();
        let mut line = format!("{again}run {} --out {} --resume", shell::path(&args.file), shell::path(out));
        let mut add = |option: &str, value: String| line += &format!(" {option} {value}");
        if args.engine.backend != AUTO {
            add("--backend", shell::word(&args.engine.backend));
        }
        if let Some(plugin) = &args.engine.plugin {
            add("--plugin", shell::path(plugin));
        }
        if args.share.devices != Devices::ONE {
            add("--devices", args.share.devices.to_string());
        }
        if let Some(threads) = args.threads {
            add("--threads", threads.to_string());
        }
        if let Some(stdlib) = &args.options.stdlib {
            add("--stdlib", shell::path(stdlib));
        }
        if args.engine.deterministic {
            line += " --deterministic";
        }
        if args.tui {
            line += " --tui";
        }
        format!("stopped and saved after step {step}; go on with: {line}")
    }
}

/// The micro-batch that the run in `folder` was started with, where `program` leaves it to the machine: another one would round
/// otherwise.
fn kept_micro_batch(folder: &RunFolder, program: &Program) -> Result<Option<MicroBatch>, String> {
    if program.spec.train.micro_batch != MicroBatch::Auto || !folder.holds_a_run() {
        return Ok(None);
    }
    let before = folder.program().map_err(|error| error.to_string())?.spec;
    Ok((before.data.batch_size == program.spec.data.batch_size).then_some(before.train.micro_batch))
}

/// `NAME=RUN` with the run loaded.
fn imported(text: &str) -> Result<ImportedRun, String> {
    let Some((alias, run)) = text.split_once('=') else {
        return Err(format!("`--with {text}` names no run\nhelp: --with {text}=RUN"));
    };
    let Trained { program, arena, .. } = trained::load(Path::new(run))?;
    Ok(ImportedRun { alias: alias.to_owned(), run: run.to_owned(), layout: program.layout, arena })
}

/// An error of the data, or of weights, is shown at its place in the file.
fn explain(error: SessionError, compiled: &Compiled, sources: &Sources) -> String {
    let (source_name, error) = match error {
        SessionError::Data { source_name, error } => (source_name, error),
        SessionError::Weights(error) => return pipeline::draw(&[weights::explain(&error, compiled)], sources),
        error => return error.to_string(),
    };
    let diagnostic = Diagnostic::new(error.code(), error.to_string()).maybe_help(error.help());
    let diagnostic = match compiled.source_spans.iter().find(|(name, _)| *name == source_name) {
        Some((_, span)) => diagnostic.label(*span, format!("`data.{source_name}`")),
        None => diagnostic,
    };
    pipeline::draw(&[diagnostic], sources)
}
