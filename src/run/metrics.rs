//! `metrics.jsonl`: one JSON object a line, each with the `step` after which it was taken and the `wall_time`.
//!
//! **Invariant:** lines stand in the order of their steps; what lies past the checkpoint that a run resumes from is cut
//! off, for it will be written again. The TensorBoard events are written from these very lines, so that both agree.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::events::Events;
use super::figures::{WALL_TIME, step, wall_time};
use super::tensor_file::write_atomically;
use super::{RunError, RunFolder};

/// The open file, and the events beside it.
pub struct Metrics {
    path: PathBuf,
    file: File,
    events: Events,
    /// Step of the last line with an evaluation.
    evaluated: Option<u64>,
}

impl Metrics {
    /// Opens the files of the run in `folder` to append, with nothing past `last_step`.
    pub fn open(folder: &RunFolder, last_step: u64) -> Result<Metrics, RunError> {
        let path = folder.metrics();
        let mut lines = Vec::new();
        if path.exists() {
            let text = read_text(&path)?;
            let mut kept = String::new();
            // Lines are kept as they stand: what was read and written again might have other last digits.
            for (line, value) in whole_lines(&text).filter(|(_, value)| step(value).is_some_and(|s| s <= last_step)) {
                kept.extend([line, "\n"]);
                lines.push(value);
            }
            write_atomically(&path, kept.as_bytes()).map_err(RunError::io("write", &path))?;
        }
        let events = Events::open(folder, &lines, last_step)?;
        let evaluated = lines.iter().rev().find(|line| line.get("evaluation").is_some()).and_then(step);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(RunError::io("open", &path))?;
        Ok(Metrics { path, file, events, evaluated })
    }

    /// Appends one object, with the time added; gives it back as it was written.
    pub fn write(&mut self, mut line: Value) -> Result<Value, RunError> {
        if let Value::Object(entries) = &mut line {
            entries.insert(WALL_TIME.to_owned(), json!(wall_time(SystemTime::now())));
        }
        // One write a line: a reader that follows the file sees whole lines.
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(RunError::io("write", &self.path))?;
        self.events.line(&line)?;
        Ok(line)
    }

    /// Notes the picture of reconstructions at `path`.
    pub fn picture(&mut self, step: u64, path: &Path) -> Result<(), RunError> {
        self.events.picture(step, path)
    }

    /// Step of the last evaluation that the file held when it was opened.
    pub fn evaluated(&self) -> Option<u64> {
        self.evaluated
    }
}

/// Names of evaluations in the figures of one, each with its accuracy; kNN first.
pub fn accuracies(figures: &Value) -> Vec<(&str, f64)> {
    let figures = figures.as_object().into_iter().flatten();
    let mut found: Vec<(&str, f64)> =
        figures.filter_map(|(key, value)| Some((evaluation_of(key)?, value.as_f64()?))).collect();
    found.sort_by_key(|(name, _)| *name != "knn");
    found
}

/// The evaluation whose accuracy goes by `key`.
pub fn evaluation_of(key: &str) -> Option<&str> {
    key.strip_suffix("_accuracy")
}

/// What the evaluation `name` found, by the file at `path`: steps and accuracies.
pub fn evaluations(path: &Path, name: &str) -> Result<Vec<(u64, f64)>, RunError> {
    let key = format!("{name}_accuracy");
    let accuracy = |line: &Value| Some((step(line)?, line["evaluation"][&key].as_f64()?));
    Ok(read(path)?.iter().filter_map(accuracy).collect())
}

/// The lines of the file at `path`; one that was cut by a crash is left out.
pub fn read(path: &Path) -> Result<Vec<Value>, RunError> {
    Ok(whole_lines(&read_text(path)?).map(|(_, value)| value).collect())
}

fn read_text(path: &Path) -> Result<String, RunError> {
    let bytes = std::fs::read(path).map_err(RunError::io("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines that are JSON and have a step, as text and read.
fn whole_lines(text: &str) -> impl Iterator<Item = (&str, Value)> {
    text.lines().filter_map(|line| {
        let value: Value = serde_json::from_str(line).ok()?;
        step(&value).map(|_| (line, value))
    })
}
