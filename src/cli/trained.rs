//! A checkpoint of a run with the program that it was trained by.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cmae::data::source::{self, Source};
use cmae::eval::Named;
use cmae::graph::Program;
use cmae::run::{Checkpoint, RunError, RunFolder};

use super::output::errln;
use super::pipeline;

/// Which run, and what of it.
#[derive(clap::Args)]
pub struct Chosen {
    /// Folder of a run.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// `best` by the accuracy that its pipeline judges first (the newest, where there is none), `last`, or a name such as step-00001200; by default the newest that is whole.
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
}

impl Chosen {
    /// The run's folder.
    pub fn run(&self) -> &Path {
        &self.run
    }

    pub fn load(&self) -> Result<Trained, String> {
        let Some(name) = &self.checkpoint else { return load(&self.run) };
        let load = || -> Result<Trained, RunError> {
            let folder = RunFolder::open(&self.run)?;
            let program = folder.program()?;
            let (checkpoint, note) = Checkpoint::<f32>::load_named(&folder, &program.layout, name)?;
            note.iter().for_each(|line| errln!("warning: {line}"));
            Ok(Trained { arena: checkpoint.arena, step: checkpoint.state.step, program, quiet: false })
        };
        load().map_err(|error| error.to_string())
    }
}

pub struct Trained {
    pub program: Program,
    /// All tensors, by the program's layout; in f32 whatever the run's precision was.
    pub arena: Vec<f32>,
    pub step: u64,
    /// Whether another rank tells what there is to say of sources.
    pub quiet: bool,
}

/// Loads the newest that `run` holds; a checkpoint that is damaged is named on stderr and passed over.
pub fn load(run: &Path) -> Result<Trained, String> {
    let load = || -> Result<Trained, RunError> {
        let folder = RunFolder::open(run)?;
        let program = folder.program()?;
        let (checkpoint, damaged) = Checkpoint::<f32>::load_newest(&folder, &program.layout)?
            .ok_or_else(|| RunError::NoCheckpoint { path: run.to_owned() })?;
        damaged.iter().for_each(|line| errln!("warning: {line}"));
        Ok(Trained { arena: checkpoint.arena, step: checkpoint.state.step, program, quiet: false })
    };
    load().map_err(|error| error.to_string())
}

impl Trained {
    /// The source that `text` names, by that name.
    pub fn named(&self, text: &str) -> Result<Named, String> {
        Ok(Named { name: text.to_owned(), source: self.source(text)? })
    }

    /// The source that `text` names: one of the pipeline's (`data.val`), or what lies at that path.
    pub fn source(&self, text: &str) -> Result<Arc<dyn Source>, String> {
        let source = pipeline::source(&self.program.spec.data, text)?;
        let lines = if self.quiet { Vec::new() } else { source::describe(text, &*source) };
        lines.iter().for_each(|line| errln!("{line}"));
        Ok(source)
    }
}
