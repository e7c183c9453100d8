//! What the command line decides of a session.

use std::sync::Arc;

use super::imports::ImportedRun;
use crate::ranks::Ranks;

#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Workers of the loader.
    pub threads: usize,
    pub resume: bool,
    /// Whether a run goes on with settings that it was not started with.
    pub accept_changes: bool,
    /// Runs that imported modules take their weights from; a checkpoint holds them already.
    pub imports: Vec<ImportedRun>,
    /// `NAME=RUN` of each `--with`, for the record.
    pub with: Vec<String>,
    /// `NAME=VALUE` of each override, for the record.
    pub overrides: Vec<String>,
    /// The ranks of the run, of which this process is one.
    pub ranks: Arc<dyn Ranks>,
}
