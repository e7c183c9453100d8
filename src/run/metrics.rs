//! `metrics.jsonl`: one JSON object a line, each with the `step` after which it was taken.
//!
//! **Invariant:** lines stand in the order of their steps; what lies past the checkpoint that a run resumes from is cut
//! off, for it will be written again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::RunError;
use super::tensor_file::write_atomically;

/// The open file.
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file at `path` to append, with no line past `step`.
    pub fn open(path: &Path, step: u64) -> Result<Metrics, RunError> {
        if path.exists() {
            let bytes = std::fs::read(path).map_err(RunError::io("read", path))?;
            let kept: String = String::from_utf8_lossy(&bytes)
                .lines()
                .filter(|line| step_of(line).is_some_and(|s| s <= step))
                .flat_map(|line| [line, "\n"])
                .collect::<Vec<_>>()
                .concat();
            write_atomically(path, kept.as_bytes()).map_err(RunError::io("write", path))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(RunError::io("open", path))?;
        Ok(Metrics { path: path.to_owned(), file })
    }

    /// Appends one object.
    pub fn write(&mut self, line: &Value) -> Result<(), RunError> {
        // One write a line: a reader that follows the file sees whole lines.
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(RunError::io("write", &self.path))
    }
}

/// Evaluations in the file at `path`: steps and kNN accuracies.
pub fn evaluations(path: &Path) -> Vec<(u64, f64)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| Some((line["step"].as_u64()?, line["evaluation"]["knn_accuracy"].as_f64()?))).collect()
}

/// The step of a line; `None` for one that was cut by a crash.
fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64()
}
