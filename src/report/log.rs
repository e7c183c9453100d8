//! Reads `metrics.jsonl` into curves.
//!
//! **Invariant:** a line that cannot be read costs that line only, and is counted.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use super::curve::Curve;
use crate::run::RunError;

/// Numbers of a line of a step that are curves as they stand.
const FIELDS: [&str; 7] =
    ["loss", "learning_rate", "gradient_norm", "images_per_second", "step_time_ms", "memory_mb", "accelerator_idle"];

/// What the metrics say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Log {
    /// In the order in which they first came.
    pub curves: Vec<Curve>,
    /// Steps in one epoch; `None` before the first line of a step.
    pub steps_per_epoch: Option<f64>,
    /// Newest step of any line.
    pub last_step: u64,
    /// Lines that are no metrics.
    pub damaged: usize,
    /// Whether the last line has no end and is not whole: it is being written, or a crash cut it.
    pub cut: bool,
    /// Step and value of the last line's `data_wait_ms`, which counts from the session's start.
    waited: (u64, f64),
}

impl Log {
    /// Reads the file at `path`; a file that is not there is an empty one.
    pub fn read(path: &Path) -> Result<Log, RunError> {
        let mut log = Log::default();
        if !path.exists() {
            return Ok(log);
        }
        let mut lines = BufReader::new(File::open(path).map_err(RunError::io("open", path))?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).map_err(RunError::io("read", path))? == 0 {
                return Ok(log);
            }
            if serde_json::from_slice::<Value>(&line).ok().and_then(|value| log.take(&value)).is_none() {
                match line.ends_with(b"\n") {
                    true => log.damaged += 1,
                    false => log.cut = true,
                }
            }
        }
    }

    pub fn curve(&self, key: &str) -> Option<&Curve> {
        self.curves.iter().find(|curve| curve.key == key)
    }

    /// The last finite value of a curve.
    pub fn last(&self, key: &str) -> Option<f64> {
        Some(self.curve(key)?.last()?.1)
    }

    /// Epochs made after `step` steps; 0 before anything is known.
    pub fn epoch(&self, step: u64) -> f64 {
        self.steps_per_epoch.map_or(0.0, |steps| step as f64 / steps)
    }

    /// Adds one line; `None` if it is none of a run's.
    fn take(&mut self, line: &Value) -> Option<()> {
        let step = line.get("step")?.as_u64()?;
        self.last_step = self.last_step.max(step);
        if let Some(figures) = line.get("evaluation") {
            self.take_all("evaluation/", step, figures.as_object()?);
            return Some(());
        }
        // Lines of kinds that later versions add are nobody's fault.
        if line.get("loss").is_none() {
            return Some(());
        }
        if let Some(epoch) = line.get("epoch").and_then(Value::as_f64).filter(|epoch| *epoch > 0.0) {
            self.steps_per_epoch = Some(step as f64 / epoch);
        }
        for field in FIELDS {
            if let Some(value) = line.get(field) {
                self.push(field, step, number(value));
            }
        }
        for group in ["losses", "monitors"] {
            if let Some(values) = line.get(group).and_then(Value::as_object) {
                self.take_all(&format!("{group}/"), step, values);
            }
        }
        if let Some(waited) = line.get("data_wait_ms").and_then(Value::as_f64) {
            let (before, sum) = self.waited;
            // A session that took the run up counts from 0 again.
            let new = if waited >= sum { waited - sum } else { waited };
            if step > before {
                self.push("data_wait_ms", step, new / (step - before) as f64);
            }
            self.waited = (step, waited);
        }
        Some(())
    }

    fn take_all(&mut self, prefix: &str, step: u64, values: &Map<String, Value>) {
        for (name, value) in values {
            self.push(&format!("{prefix}{name}"), step, number(value));
        }
    }

    fn push(&mut self, key: &str, step: u64, value: f64) {
        let at = self.curves.iter().position(|curve| curve.key == key).unwrap_or_else(|| {
            self.curves.push(Curve::new(key));
            self.curves.len() - 1
        });
        let curve = &mut self.curves[at];
        match curve.steps.last() {
            // A finished run that is resumed is judged once more: the newer figure counts.
            Some(&last) if step <= last => {
                let from = curve.steps.partition_point(|&known| known < step);
                curve.steps.truncate(from);
                curve.values.truncate(from);
            }
            _ => {}
        }
        curve.push(step, value);
    }
}

/// JSON has no NaN: it stands as null.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Log {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it is ours");
        Log::read(file.path()).expect("it is there")
    }

    #[test]
    fn lines_become_curves_and_damaged_ones_are_counted() {
        let log = read(concat!(
            r#"{"step":1,"epoch":0.5,"loss":2.0,"losses":{"a":1.5,"b":0.5},"data_wait_ms":8.0}"#,
            "\n\u{1}garbage\n[1]\n",
            r#"{"step":2,"epoch":1.0,"loss":null,"losses":{"a":1.0,"b":null},"data_wait_ms":10.0}"#,
            "\n",
            r#"{"step":2,"evaluation":{"knn_accuracy":0.25}}"#,
            "\n",
            r#"{"step":3,"of":"a later version"}"#,
            "\n",
            r#"{"step":4,"epoch":2.0,"lo"#,
        ));
        assert_eq!((log.damaged, log.cut, log.last_step, log.steps_per_epoch), (2, true, 3, Some(2.0)));
        assert_eq!(log.last("losses/a"), Some(1.0));
        assert_eq!(log.last("loss"), Some(2.0), "null is no number");
        assert_eq!(log.curve("data_wait_ms").expect("it is logged").values, [8.0, 2.0]);
        assert_eq!(log.last("evaluation/knn_accuracy"), Some(0.25));
        assert_eq!(log.epoch(3), 1.5);
    }

    #[test]
    fn a_step_that_comes_again_counts_once() {
        let log = read("{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}\n{\"step\":2,\"loss\":1}\n");
        let curve = log.curve("loss").expect("it is logged");
        assert_eq!((&curve.steps[..], &curve.values[..]), (&[1, 2][..], &[3.0, 1.0][..]));
    }
}
