//! What a run keeps in its folder: metrics, checkpoints, and which of them is best.
//!
//! Before: `session` can make a step. After: it writes here what it made. Of several ranks the first alone does.

use super::options::SessionOptions;
use super::sources::Sources;
use super::{SessionError, Trainer};
use crate::backend::Session;
use crate::data::source::Fingerprint;
use crate::graph::Program;
use crate::run::checkpoint::{self, Checkpoint, machine};
use crate::run::metrics::evaluations;
use crate::run::{Metrics, RunFolder, Saver, Started};
use crate::tensor::Element;

pub(super) struct Records<'a, E> {
    pub folder: &'a RunFolder,
    pub metrics: Metrics,
    pub saver: Saver<E>,
    /// Of the sources, by name.
    pub fingerprints: Vec<(String, Fingerprint)>,
    /// The best accuracy so far, of the first evaluation.
    pub best: Option<f64>,
    /// Whether a step was compiled for it that the folder did not hold.
    pub compiled: bool,
}

impl<'a, E: Element> Records<'a, E> {
    /// Writes what a run is known by, and takes up what was kept of it.
    pub fn open(
        program: &Program,
        text: &str,
        folder: &'a RunFolder,
        trainer: &mut Trainer<'_, E>,
        (sources, fingerprints): (&Sources, Vec<(String, Fingerprint)>),
        options: &SessionOptions,
    ) -> Result<Self, SessionError> {
        let train = &program.spec.train;
        folder.write_program(text, program)?;
        sources.keep(folder)?;
        let compiled = keep_programs(folder, &mut *trainer.session)?;
        let started = Started {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: trainer.session.backend().to_owned(),
            precision: train.precision.name().to_owned(),
            machine: machine(),
            threads: options.threads,
            overrides: options.overrides.clone(),
            imports: options.with.clone(),
            total_steps: trainer.clock.total_steps as u64,
        };
        started.write(folder)?;
        let metrics = Metrics::open(folder, trainer.step)?;
        // A run is as good as what its file judges first.
        let first = program.spec.evaluate.names().next().unwrap_or_default();
        let best = evaluations(&folder.metrics(), first)?;
        let best = best.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
        if let Some((step, _)) = best
            && Checkpoint::<E>::is_there(folder, step)
        {
            // It was killed after the checkpoint and before its name was written.
            folder.write_best(step)?;
            checkpoint::prune(folder, train.keep)?;
        }
        let saver = Saver::new(folder, &program.layout, train.keep);
        Ok(Records { folder, metrics, saver, fingerprints, best: best.map(|(_, accuracy)| accuracy), compiled })
    }

    /// Steps after which pictures were last drawn, of the `step` at hand alone, and after which features were last judged.
    pub fn looked(&self, step: u64) -> [Option<u64>; 2] {
        [Some(step).filter(|step| self.folder.reconstructions(*step).is_file()), self.metrics.evaluated()]
    }
}

/// Keeps what a device's compiler has made; whether a step was among it.
pub(super) fn keep_programs<E: Element>(
    folder: &RunFolder,
    session: &mut dyn Session<E>,
) -> Result<bool, SessionError> {
    let mut compiled = false;
    for (name, program) in session.new_programs() {
        compiled |= name.starts_with("step");
        folder.keep_program(&name, &program)?;
    }
    Ok(compiled)
}
