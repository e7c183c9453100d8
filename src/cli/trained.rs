//! A run's newest checkpoint with the program that it was trained by.

use std::path::Path;
use std::sync::Arc;

use cmae::data::source::{self, Source};
use cmae::graph::Program;
use cmae::run::{Checkpoint, RunError, RunFolder};
use cmae::spec::SourceSpec;

pub struct Trained {
    pub program: Program,
    /// All tensors, by the program's layout; in f32 whatever the run's precision was.
    pub arena: Vec<f32>,
    pub step: u64,
}

/// Loads what `run` holds; a checkpoint that is damaged is named on stderr and passed over.
pub fn load(run: &Path) -> Result<Trained, String> {
    let load = || -> Result<Trained, RunError> {
        let folder = RunFolder::open(run)?;
        let program = folder.program()?;
        let (checkpoint, damaged) = Checkpoint::<f32>::load_newest(&folder, &program.layout)?
            .ok_or_else(|| RunError::NoCheckpoint { path: run.to_owned() })?;
        damaged.iter().for_each(|line| eprintln!("warning: {line}"));
        Ok(Trained { arena: checkpoint.arena, step: checkpoint.state.step, program })
    };
    load().map_err(|error| error.to_string())
}

impl Trained {
    /// The source that `text` names: one of the pipeline's (`data.val`), or a folder of pictures.
    pub fn source(&self, text: &str) -> Result<Arc<dyn Source>, String> {
        let data = &self.program.spec.data;
        let spec = match text.strip_prefix("data.") {
            Some(name) => data.source(name).cloned().ok_or_else(|| {
                let known: Vec<String> = data.sources.iter().map(|(name, _)| format!("data.{name}")).collect();
                format!("the run has no source `{text}`\nhelp: it has {}", known.join(", "))
            })?,
            None => SourceSpec::ImageFolder { path: text.to_owned() },
        };
        source::open(&spec, data.channels).map_err(|error| match error.help() {
            Some(help) => format!("{error}\nhelp: {help}"),
            None => error.to_string(),
        })
    }
}
