//! `started.ron`: what the command that last trained a run decided beside the pipeline's text.
//!
//! **Invariant:** nothing that weights hang on is here alone: overrides are in `resolved.ron` too, as what they made.

use serde::{Deserialize, Serialize};

use super::folder::from_ron;
use super::{RunError, RunFolder};

const FILE: &str = "started.ron";

/// How a run was started, or taken up again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Started {
    /// Version of the program.
    pub version: String,
    pub backend: String,
    pub precision: String,
    /// Kind of processor.
    pub machine: String,
    pub threads: usize,
    /// `NAME=VALUE` of each `--set` and each `--sweep`.
    pub overrides: Vec<String>,
    /// `NAME=RUN` of each `--with`.
    pub imports: Vec<String>,
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
}

impl Started {
    pub fn write(&self, folder: &RunFolder) -> Result<(), RunError> {
        folder.write(FILE, folder.to_ron(FILE, self, true)?.as_bytes())
    }

    /// `None` in folders of versions that did not write it.
    pub fn read(folder: &RunFolder) -> Result<Option<Started>, RunError> {
        let path = folder.path().join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(RunError::io("read", &path))?;
        from_ron(&path, &text).map(Some)
    }
}
