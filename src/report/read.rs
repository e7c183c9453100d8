//! Reads a run folder into what a report shows.
//!
//! Before: [`crate::run`] wrote it; the run may still be going on. After: [`super::page`] and [`super::compare`].
//!
//! **Invariant:** nothing here writes to the folder, and only what makes it a run must be there: a part that is missing or
//! damaged is named among the warnings.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::ReportError;
use super::chart::count;
use super::curve::Curve;
use super::log::Log;
use super::pictures::{self, Picture};
use crate::eval::{Classified, FeatureMap, Segmented};
use crate::graph::Program;
use crate::run::{RunFolder, Started, checkpoint};
use crate::spec::{Schedule, Selector};

/// Points that a schedule is drawn with.
const SCHEDULE_POINTS: u64 = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The last step is made and saved.
    Finished,
    /// A process holds the folder.
    Training,
    /// It ended early: asked to, by an error, or killed.
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Finished => "finished",
            Status::Training => "training",
            Status::Stopped => "stopped",
        }
    }
}

/// A number that the settings plan.
#[derive(Debug, Clone)]
pub struct Planned {
    pub title: String,
    /// Over the whole run.
    pub curve: Curve,
}

/// A run as it is on disk.
#[derive(Debug)]
pub struct Run {
    pub path: PathBuf,
    pub program: Program,
    /// The pipeline's text.
    pub text: String,
    pub started: Option<Started>,
    pub log: Log,
    pub status: Status,
    /// Steps of the whole run; `None` where nothing tells.
    pub total_steps: Option<u64>,
    /// Steps of the newest checkpoint.
    pub saved: Option<u64>,
    /// The newest first.
    pub pictures: Vec<Picture>,
    /// Pictures that there are; not all are shown.
    pub picture_count: usize,
    pub map: Option<FeatureMap>,
    /// By t-SNE.
    pub neighbour_map: Option<FeatureMap>,
    pub classified: Option<Classified>,
    pub segmented: Option<Segmented>,
    /// Contact sheets: pictures with those whose features are nearest, and what becomes of patches.
    pub neighbours: Option<Picture>,
    /// Pictures with the classes of their pixels.
    pub segmented_picture: Option<Picture>,
    pub patches: Option<Picture>,
    /// Learning rate first, then what changes over time.
    pub schedules: Vec<Planned>,
    pub warnings: Vec<String>,
}

impl Run {
    pub fn read(path: &Path) -> Result<Run, ReportError> {
        if !path.exists() {
            return Err(ReportError::NotThere { path: path.to_owned() });
        }
        let folder = RunFolder::open(path)?;
        let program = folder.program()?;
        // Before the metrics: a run that ends in between is then still told to be training, not to have stopped.
        let in_use = folder.in_use();
        let mut warnings = Vec::new();
        let mut log = Log::read(&folder.metrics())?;
        // While a process writes, it is the line that is being written.
        log.damaged += usize::from(log.cut && !in_use);
        if log.curves.iter().all(|curve| curve.key.starts_with("evaluation/")) {
            return Err(ReportError::NoMetrics { path: folder.metrics(), damaged: log.damaged });
        }
        if log.damaged > 0 {
            let lines = count(log.damaged, "line");
            warnings.push(format!("{lines} of {} left out: no JSON with a step", folder.metrics().display()));
        }
        let mut warn = |what: String| warnings.push(what);
        let started = Started::read(&folder).unwrap_or_else(|error| {
            warn(error.to_string());
            None
        });
        let text = fs::read_to_string(path.join("pipeline.cmae")).unwrap_or_else(|error| {
            warn(format!("cannot read {}: {error}", path.join("pipeline.cmae").display()));
            String::new()
        });
        let map = read_json(&folder.feature_map(), &mut warn);
        let neighbour_map = read_json(&folder.neighbour_map(), &mut warn);
        let classified = read_json(&folder.classified(), &mut warn);
        let segmented = read_json(&folder.segmented(), &mut warn);
        let neighbours = pictures::sheet(&folder.neighbours(), &mut warn);
        let segmented_picture = pictures::sheet(&folder.segmented_picture(), &mut warn);
        let patches = pictures::sheet(&folder.patches(), &mut warn);
        let (pictures, picture_count) = pictures::read(&path.join("reconstructions"), &mut warn);
        let saved = checkpoint::list(&folder)?.first().map(|(step, _)| *step);
        let of_epochs = |per_epoch: f64| (program.spec.train.epochs * per_epoch).round().max(1.0) as u64;
        let total_steps = started.as_ref().map(|s| s.total_steps).or(log.steps_per_epoch.map(of_epochs));
        let status = match total_steps {
            Some(total) if saved.is_some_and(|step| step >= total) => Status::Finished,
            _ if in_use => Status::Training,
            _ => Status::Stopped,
        };
        let schedules = schedules(&program, log.steps_per_epoch.unwrap_or(1.0), total_steps.unwrap_or(1));
        let path = path.to_owned();
        Ok(Run {
            path,
            program,
            text,
            started,
            log,
            status,
            total_steps,
            saved,
            pictures,
            picture_count,
            map,
            neighbour_map,
            classified,
            segmented,
            neighbours,
            segmented_picture,
            patches,
            schedules,
            warnings,
        })
    }

    /// Curves by key: those of the metrics, then those of the settings.
    pub fn curve(&self, key: &str) -> Option<&Curve> {
        self.log.curve(key).or_else(|| self.schedules.iter().map(|s| &s.curve).find(|curve| curve.key == key))
    }

    pub fn epoch(&self) -> f64 {
        self.log.epoch(self.log.last_step)
    }

    /// Last figure of an evaluation.
    pub fn evaluation(&self, name: &str) -> Option<f64> {
        self.log.last(&format!("evaluation/{name}"))
    }
}

fn read_json<T: DeserializeOwned>(path: &Path, warn: &mut dyn FnMut(String)) -> Option<T> {
    if !path.is_file() {
        return None;
    }
    let read = fs::read(path).map_err(|error| error.to_string());
    let found = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    found.map_err(|error| warn(format!("cannot read {}: {error}", path.display()))).ok()
}

/// Learning rate, and whatever else the settings let change over the run.
fn schedules(program: &Program, steps_per_epoch: f64, total_steps: u64) -> Vec<Planned> {
    let train = &program.spec.train;
    let plan = |title: String, schedule: &Schedule| {
        let mut curve = Curve::new(&format!("schedule/{}", title.replace(' ', "_")));
        let points = SCHEDULE_POINTS.min(total_steps);
        // Step `n` takes the value in force after `n − 1` steps; so does the metrics' line of it.
        for step in (0..=points).map(|at| (at * total_steps / points.max(1)).max(1)) {
            if curve.steps.last() != Some(&step) {
                curve.push(step, schedule.at((step - 1) as f64, steps_per_epoch, total_steps as f64));
            }
        }
        Planned { title, curve }
    };
    let changes = |schedule: &&Schedule| !matches!(schedule, Schedule::Constant(_));
    let mut found = vec![plan("learning rate".to_owned(), &train.learning_rate)];
    found.extend(Some(train.optimizer.weight_decay()).filter(changes).map(|s| plan("weight decay".to_owned(), s)));
    let emas = program.emas.iter().filter(|ema| changes(&&ema.momentum));
    found.extend(emas.map(|ema| plan(format!("momentum of {}", ema.name), &ema.momentum)));
    for rule in &train.rules {
        let selected = match &rule.selector {
            Selector::Roles(roles) => roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", "),
            Selector::Paths(paths) => paths.join(", "),
        };
        for (what, schedule) in [("learning rate", &rule.learning_rate), ("weight decay", &rule.weight_decay)] {
            found.extend(schedule.as_ref().filter(changes).map(|s| plan(format!("{what} of {selected}"), s)));
        }
    }
    found
}
