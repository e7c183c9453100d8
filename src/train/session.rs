//! A run from start, or from its newest checkpoint, to its end: batches, steps, evaluations, checkpoints.
//!
//! Before: a compiled [`Program`], a backend, a locked [`RunFolder`]. After: the folder holds all that there is.
//!
//! Of several ranks each makes the run, with its own rows of each batch; the first alone has the folder, and [`Records`] of it.
//!
//! **Invariant:** a run that was killed at any moment and taken up again ends with the same bytes of weights, and the
//! same lines of metrics but for times, memory and what stood ready in the loader, as one that was not.
//!
//! **Invariant:** ranks meet in the same places: what hangs on the folder is rank 0's to say ([`agreement`]), what hangs on who
//! is asked to stop is agreed on.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::agreement;
use super::idle::Idle;
use super::imports;
use super::options::SessionOptions;
use super::records::{Records, keep_programs};
use super::resume::{check_changes, check_slots, check_sources, slot_names, tell_other_machine};
use super::sources::Sources;
use super::standing::Standing;
use super::watch::{Looked, SessionError, StepLine, Watch, quality_error};
use super::{StepReport, Trainer, init};
use crate::backend::{Backend, StepError};
use crate::data::loader::{Counters, Loader, LoaderOptions, steps_per_epoch};
use crate::eval::{Classifier, Judge, LeftOut, Quality, Segmenter};
use crate::graph::Program;
use crate::graph::masking::maskings;
use crate::ranks::{self, Ranks};
use crate::run::RunFolder;
use crate::run::checkpoint::{self, Checkpoint, State, machine};
use crate::run::memory::resident_memory;
use crate::spec::{Classification, Clock, Evaluation, Precision, Spec};
use crate::tensor::{Element, Pictures};
use crate::weights::{self, Loaded};

/// Broken pictures of a batch that are told by name.
const BROKEN_NAMED: usize = 10;

/// Said once, before the first step, on a machine that only imitates bf16.
const NO_BF16: &str = "warning: this machine has no instructions on bf16 (AMX, AVX512-BF16 or Arm's bfmmla): layers' products round their \
                       operands to it and are no faster than f32's (--set train.precision=f32)";

/// What the features have to beat.
pub(super) struct Baseline {
    pub(super) untrained: Quality,
    pub(super) pixels: Quality,
}

/// How a session ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Finished,
    /// Saved after this many steps, since it was asked to stop.
    Stopped {
        step: u64,
    },
}

/// Trains `program`, whose text is `text`, in `folder`: rank 0's, and no other's.
pub fn run<E: Element>(
    program: &Program,
    text: &str,
    backend: Box<dyn Backend<E>>,
    folder: Option<&RunFolder>,
    options: &SessionOptions,
    watch: &mut dyn Watch,
) -> Result<Ended, SessionError> {
    let mut training = Training::open(program, text, backend, folder, options, watch)?;
    maskings(&program.train).iter().for_each(|masking| watch.say(&masking.to_string()));
    let ended = training.train(options, watch);
    watch.end();
    let ended = ended.and_then(|ended| {
        if ended == Ended::Finished {
            return training.finish(watch);
        }
        Ok(ended)
    });
    let Some(records) = &mut training.records else { return ended };
    // Whatever ended the run: what was begun is in place before anybody looks for it.
    let written = records.saver.wait();
    let ended = ended.and_then(|ended| Ok(written.map(|()| ended)?));
    let folder = records.folder;
    if ended.is_err()
        && let Some((step, _)) = checkpoint::list(folder).ok().and_then(|found| found.into_iter().next())
    {
        watch.say(&format!("the checkpoint after step {step} is kept in {}", folder.path().display()));
    }
    ended
}

/// How long a step took, alone and with the wait for its batch.
struct Seconds {
    step: f64,
    with_wait: f64,
}

pub(super) struct Training<'a, E> {
    pub(super) program: &'a Program,
    pub(super) trainer: Trainer<'a, E>,
    pub(super) ranks: Arc<dyn Ranks>,
    /// Rank 0's.
    pub(super) records: Option<Records<'a, E>>,
    /// Since the last line of metrics.
    idle: Idle,
    /// Of a run from its first step on.
    standing: Option<Standing>,
    pub(super) sources: Sources,
    pub(super) judges: Vec<Judge>,
    pub(super) classifiers: Vec<Classifier>,
    pub(super) segmenters: Vec<Segmenter>,
    /// Made when it is first needed.
    pub(super) baseline: Option<Baseline>,
    /// Steps after which pictures were last drawn.
    pub(super) drawn: Option<u64>,
    /// What the last evaluation went without.
    pub(super) left_out: Vec<LeftOut>,
    /// Steps after which the features were last judged, and the checkpoint last begun.
    pub(super) judged: Option<u64>,
    saved: Option<u64>,
    pub(super) total_steps: u64,
}

impl<'a, E: Element> Training<'a, E> {
    fn open(
        program: &'a Program,
        text: &str,
        backend: Box<dyn Backend<E>>,
        folder: Option<&'a RunFolder>,
        options: &SessionOptions,
        watch: &mut dyn Watch,
    ) -> Result<Self, SessionError> {
        let (spec, engine) = (&program.spec, &*options.ranks);
        // Every source is opened before anything is written: a folder that is missing shows at once.
        let sources = Sources::open(program, folder, watch)?;
        sources.describe().iter().for_each(|line| watch.say(line));
        let judged = if program.features.is_some() { &spec.evaluate.evaluations[..] } else { &[] };
        let judges = Judge::all(judged, &mut |name| sources.named(name), &options.ranks)
            .map_err(|error| quality_error(program, error))?;
        let classifier = |spec: &Classification| {
            let [known, queries] = spec.sources().map(|name| sources.named(name));
            Classifier::new(spec, program, &known, queries, options.ranks.clone())
        };
        let classifiers: Result<Vec<Classifier>, _> = spec.evaluate.classifications.iter().map(classifier).collect();
        let classifiers = classifiers.map_err(|error| quality_error(program, error))?;
        let segmenter = |spec| Segmenter::new(spec, sources.named(&spec.queries), options.ranks.clone());
        let segmenters: Vec<Segmenter> = spec.evaluate.segmentations.iter().map(segmenter).collect();
        let fingerprints = sources.fingerprints();
        let in_train = |error| SessionError::Data { source_name: "train".to_owned(), error };
        let steps_per_epoch = steps_per_epoch(&*sources.get("train"), "train", spec.data.batch_size);
        let clock = Clock::new(spec.train.epochs, steps_per_epoch.map_err(in_train)?);
        watch.counted(sources.get("train").len());
        agreement::same_pictures(engine, &fingerprints)?;
        let mut taken_up = None;
        if let Some(folder) = folder.filter(|folder| options.resume && folder.holds_a_run()) {
            check_changes(folder, program, options.accept_changes, watch)?;
            match Checkpoint::<E>::load_newest(folder, &program.layout)? {
                Some((checkpoint, damaged)) => {
                    damaged.iter().for_each(|line| watch.say(&format!("warning: {line}")));
                    check_slots(folder, &spec.train, &checkpoint.state)?;
                    check_sources(folder, &checkpoint.state, &fingerprints, options.accept_changes, watch)?;
                    checkpoint::settle(folder, checkpoint.state.step, spec.train.keep)?;
                    tell_other_machine(&checkpoint.state, backend.name(), program.ranks, watch);
                    taken_up = Some(checkpoint);
                }
                None => watch.say("no checkpoint yet: starting afresh"),
            }
        }
        agreement::share(engine, &program.layout, &spec.train, &mut taken_up);
        let saved = taken_up.as_ref().map(|checkpoint| checkpoint.state.step);
        if spec.train.precision == Precision::Bf16 && !backend.multiplies_bf16() {
            watch.say(NO_BF16);
        }
        let (mut trainer, loaded) = trainer(program, backend, clock, taken_up, options)?;
        loaded.iter().flat_map(Loaded::lines).for_each(|line| watch.say(&line));
        // A backend that cannot make this program's steps says so before a file of the run is written: the folder stays one that
        // another run may take. Steps by micro-batches are planned at the first.
        if let Some(folder) = folder {
            let (programs, damaged) = folder.programs();
            damaged.iter().for_each(|line| watch.say(&format!("warning: {line}")));
            trainer.session.offer_programs(programs);
        }
        trainer.session.prepare().map_err(StepError::from)?;
        let own = trainer.session.ranks();
        let each_compiles = trainer.session.backend() == "xla" && own.len() < program.ranks;
        let records = match folder {
            Some(folder) => {
                let opened = Records::open(program, text, folder, &mut trainer, (&sources, fingerprints), options)?;
                if !loaded.is_empty() {
                    folder.write_loaded(&loaded)?;
                }
                if saved.is_some() && opened.compiled {
                    watch.say(
                        "warning: the step was compiled anew, by another plugin or for another device than before: results agree \
                         within rounding only",
                    );
                }
                if saved.is_some() && each_compiles {
                    watch.say(
                        "warning: several processes compile the step anew each time: results agree within rounding only",
                    );
                }
                Some(opened)
            }
            None => None,
        };
        for (judge, why) in judges.iter().filter_map(|judge| Some((judge, judge.no_labels()?))) {
            let titles: Vec<String> = judge.evaluations().iter().map(Evaluation::title).collect();
            watch.say(&format!(
                "{} {} left out: {why}; features of {} are judged by effective rank, deviation and cosine",
                titles.join(", "),
                if titles.len() == 1 { "is" } else { "are" },
                judge.queries()
            ));
        }
        let looked = records.as_ref().map(|records| records.looked(trainer.step)).unwrap_or_default();
        let [drawn, judged] = agreement::looked(engine, looked);
        Ok(Training {
            program,
            ranks: options.ranks.clone(),
            records,
            sources,
            judges,
            classifiers,
            segmenters,
            baseline: None,
            drawn,
            left_out: Vec::new(),
            judged,
            idle: Idle::default(),
            standing: Standing::new(trainer.step, trainer.clock.total_steps as u64),
            saved,
            total_steps: trainer.clock.total_steps as u64,
            trainer,
        })
    }

    fn train(&mut self, options: &SessionOptions, watch: &mut dyn Watch) -> Result<Ended, SessionError> {
        let (program, spec) = (self.program, &self.program.spec);
        let loader_options = loader_options(spec, options);
        let steps = self.trainer.step..self.total_steps;
        let in_train = |error| SessionError::Data { source_name: "train".to_owned(), error };
        let (views, inputs, batch_size) = (&spec.views, &program.train.inputs, spec.data.batch_size);
        let source = self.sources.get("train");
        let share = self.trainer.share();
        let mut loader = Loader::start(source, views, inputs, share, loader_options, steps).map_err(in_train)?;
        watch.begin(self.trainer.step, self.total_steps, batch_size);
        if self.trainer.step < self.total_steps {
            // The run ended between a checkpoint and what was to be looked at then.
            if self.look(self.due(), watch)? == Looked::Stopped {
                return Ok(Ended::Stopped { step: self.trainer.step });
            }
        }
        // What comes between two steps, such as an evaluation, is no time of theirs.
        let mut since = Instant::now();
        while let Some(batch) = loader.next_batch() {
            let batch = batch.map_err(in_train);
            self.sources.noticed().iter().for_each(|line| watch.say_own(line));
            tell_broken(&loader.take_broken(), watch);
            if let Some(records) = &mut self.records {
                records.saver.poll()?;
            }
            let start = Instant::now();
            if let Some(report) = self.trainer.step_ahead(batch?.inputs)? {
                let seconds = Seconds { step: start.elapsed().as_secs_f64(), with_wait: since.elapsed().as_secs_f64() };
                since = Instant::now();
                self.log(&report, &seconds, loader.counters(), watch)?;
                self.trainer.session.reuse(report.results);
            }
            let (step, clock) = (self.trainer.step, self.trainer.clock);
            let mut stop = ranks::any(&*self.ranks, watch.asked_to_stop()) && step < self.total_steps;
            let due = self.due();
            let save = stop || due.any() || clock.is_due(spec.train.checkpoint_every, step);
            if save || step == self.total_steps {
                // Only steps that are known to be sound are saved.
                if let Some(report) = self.trainer.settle()? {
                    let seconds = since.elapsed().as_secs_f64();
                    self.log(&report, &Seconds { step: seconds, with_wait: seconds }, loader.counters(), watch)?;
                }
            }
            // First handed over to be saved, then looked at: an evaluation that fails loses no step.
            if save && self.saved != Some(step) {
                self.save()?;
            }
            // Who asks to leave does not wait for it: it is made up for as the run goes on.
            if !stop {
                stop = self.look(due, watch)? == Looked::Stopped;
            }
            if save {
                since = Instant::now();
            }
            if let Some(records) = &self.records
                && (self.judged == Some(step) || self.saved == Some(step))
            {
                watch.kept(records.folder);
            }
            if stop {
                return Ok(Ended::Stopped { step });
            }
        }
        let counters = loader.counters();
        let broken: i64 = ranks::each(&*self.ranks, counters.broken as i64).iter().sum();
        if counters.batches > 0 {
            watch.say(&format!(
                "loader: {} of {} batches were ready before they were asked for, waited {:.1} s in all, {} broken",
                counters.ready,
                counters.batches,
                counters.waited.as_secs_f64(),
                match broken {
                    1 => "1 picture".to_owned(),
                    n => format!("{n} pictures"),
                },
            ));
        }
        Ok(Ended::Finished)
    }

    /// Last checkpoint, pictures and figures, where the last step did not bring them.
    fn finish(&mut self, watch: &mut dyn Watch) -> Result<Ended, SessionError> {
        if self.saved != Some(self.trainer.step) {
            self.save()?;
        }
        Ok(match self.look(self.due(), watch)? {
            Looked::AtAll => Ended::Finished,
            Looked::Stopped => Ended::Stopped { step: self.trainer.step },
        })
    }

    fn log(
        &mut self,
        report: &StepReport<E>,
        seconds: &Seconds,
        counters: Counters,
        watch: &mut dyn Watch,
    ) -> Result<(), SessionError> {
        let (graph, train) = (&self.program.train, &self.program.spec.train);
        let named = |names: &'a [(String, _)], values: &[f64]| -> Vec<(&'a str, f64)> {
            names.iter().map(|(name, _)| name.as_str()).zip(values.iter().copied()).collect()
        };
        let losses = named(&graph.losses, &report.results.losses);
        let epoch = report.step as f64 / self.trainer.clock.steps_per_epoch;
        let learning_rate = report.learning_rate;
        self.idle.add(report.device);
        watch.step(&StepLine {
            step: report.step,
            epoch,
            learning_rate,
            seconds: seconds.with_wait,
            accelerator_idle: report.device.and_then(|device| device.idle_share()),
            losses: &losses,
        });
        if let Some(standing) = &mut self.standing {
            standing.add(report.step, &losses).iter().for_each(|line| watch.say(line));
        }
        let last = report.step == self.total_steps;
        let Some(records) = &mut self.records else { return Ok(()) };
        if !last && !report.step.is_multiple_of(train.log_every_steps.max(1) as u64) {
            return Ok(());
        }
        let object = |pairs: Vec<(&str, f64)>| -> Value {
            Value::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>())
        };
        let mut line = json!({
            "step": report.step,
            "epoch": epoch,
            "learning_rate": learning_rate,
            "loss": report.results.total,
            "losses": object(losses),
            "monitors": object(named(&graph.monitors, &report.results.monitors)),
            "step_time_ms": seconds.step * 1e3,
            "images_per_second": self.program.spec.data.batch_size as f64 / seconds.with_wait,
            "batches_ready": counters.ready,
            "data_wait_ms": counters.waited.as_secs_f64() * 1e3,
        });
        let megabytes = resident_memory().map(|bytes| bytes as f64 / f64::from(1 << 20));
        let others =
            [("gradient_norm", report.gradient_norm), ("memory_mb", megabytes), ("accelerator_idle", self.idle.take())];
        for (name, value) in others {
            if let (Some(value), Value::Object(entries)) = (value, &mut line) {
                entries.insert(name.to_owned(), json!(value));
            }
        }
        watch.logged(&records.metrics.write(line)?);
        Ok(())
    }

    fn save(&mut self) -> Result<(), SessionError> {
        if let Some(records) = &self.records {
            keep_programs(records.folder, &mut *self.trainer.session)?;
        }
        let (spec, step, backend) = (&self.program.spec, self.trainer.step, self.trainer.session.backend());
        let kept = self.trainer.kept().map_err(StepError::from)?;
        self.saved = Some(step);
        let Some(records) = &mut self.records else { return Ok(()) };
        let state = State {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pipeline: spec.name.clone(),
            step,
            seed: spec.train.seed,
            precision: spec.train.precision.name().to_owned(),
            backend: backend.to_owned(),
            machine: machine(),
            ranks: self.program.ranks,
            slots: slot_names(&spec.train),
            updates: kept.updates.to_vec(),
            sources: records.fingerprints.clone(),
            files: Vec::new(),
        };
        records.saver.save(state, kept.tensors, kept.slots)?;
        Ok(())
    }
}

/// Tells of pictures that were found broken: some by name, all by number.
fn tell_broken(broken: &[(String, String)], watch: &mut dyn Watch) {
    for (name, reason) in broken.iter().take(BROKEN_NAMED) {
        watch.say_own(&format!("warning: {name} is broken and passed over: {reason}"));
    }
    if broken.len() > BROKEN_NAMED {
        watch.say_own(&format!("warning: {} more are broken", broken.len() - BROKEN_NAMED));
    }
}

/// How batches of training are loaded.
fn loader_options(spec: &Spec, options: &SessionOptions) -> LoaderOptions {
    LoaderOptions {
        seed: spec.train.seed,
        threads: options.threads,
        prefetch: spec.data.prefetch_batches,
        max_broken: spec.data.max_broken,
        pictures: Pictures::Levels,
    }
}

/// A trainer from the pipeline's initial values and the files that it names, or from a checkpoint, which holds what came of both.
fn trainer<'p, E: Element>(
    program: &'p Program,
    backend: Box<dyn Backend<E>>,
    clock: Clock,
    taken_up: Option<Checkpoint<E>>,
    options: &SessionOptions,
) -> Result<(Trainer<'p, E>, Vec<Loaded>), SessionError> {
    let open = |tensors| backend.open(program, tensors).map_err(StepError::from);
    let Some(Checkpoint { state, arena, slots }) = taken_up else {
        let mut tensors = init::initialise(&program.layout, program.spec.train.seed);
        imports::fill(program, &mut tensors, &options.imports)?;
        let loaded = weights::load(program, &mut tensors)?;
        if !loaded.is_empty() {
            init::copy(&program.layout, &mut tensors);
        }
        return Ok((Trainer::new(program, open(tensors)?, clock), loaded));
    };
    let mut session = open(vec![E::ZERO; program.layout.total_len])?;
    session.restore(arena, slots, state.updates).map_err(StepError::from)?;
    let mut trainer = Trainer::new(program, session, clock);
    trainer.step = state.step;
    Ok((trainer, Vec::new()))
}
