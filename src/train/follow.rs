//! A rank beside the first: it makes the run's steps on its own rows of each batch, and keeps nothing of them.
//!
//! Before: [`session`](super::session) runs on rank 0, which owns the folder. After: both have ended in the same way.
//!
//! **Invariant:** here and in `session` the ranks meet in the same places: see [`agreement`](super::agreement), every exchange of a
//! step, and two questions behind each step: whether anybody was asked to stop, and whether rank 0 does.

use super::agreement;
use super::session::{Ended, SessionOptions, loader_options, tell_broken, trainer};
use super::watch::{SessionError, Watch};
use crate::backend::{Backend, StepError};
use crate::data::evaluation::probe;
use crate::data::loader::{Loader, steps_per_epoch};
use crate::data::source;
use crate::graph::Program;
use crate::ranks;
use crate::spec::Clock;
use crate::tensor::Element;

/// Trains `program` along with rank 0.
pub fn follow<E: Element>(
    program: &Program,
    backend: Box<dyn Backend<E>>,
    options: &SessionOptions,
    watch: &mut dyn Watch,
) -> Result<Ended, SessionError> {
    let (spec, engine) = (&program.spec, &*options.ranks);
    let in_train = |error| SessionError::Data { source_name: "train".to_owned(), error };
    let train = spec.data.source("train").expect("the compiler checks the names of sources");
    let source = source::open(train, spec.data.channels, spec.data.max_pixels).map_err(in_train)?;
    probe(&*source, "data.train").map_err(in_train)?;
    let steps_per_epoch = steps_per_epoch(&*source, "train", spec.data.batch_size).map_err(in_train)?;
    let clock = Clock::new(spec.train.epochs, steps_per_epoch);
    agreement::same_pictures(engine, &*source)?;
    let mut taken_up = None;
    agreement::share(engine, &program.layout, &spec.train, &mut taken_up);
    let mut trainer = trainer(program, backend, clock, taken_up, options)?;
    trainer.session.prepare().map_err(StepError::from)?;
    let total_steps = clock.total_steps as u64;
    let (views, inputs, steps) = (&spec.views, &program.train.inputs, trainer.step..total_steps);
    let mut loader = Loader::start(source, views, inputs, trainer.share(), loader_options(spec, options), steps)
        .map_err(in_train)?;
    // Rank 0 looks at what it had no time for.
    if trainer.step < total_steps && ranks::any(engine, false) {
        return Ok(Ended::Stopped { step: trainer.step });
    }
    while let Some(batch) = loader.next_batch() {
        let batch = batch.map_err(in_train)?;
        tell_broken(&loader.take_broken(), watch);
        if let Some(report) = trainer.step_ahead(batch.inputs)? {
            trainer.session.reuse(report.results);
        }
        let step = trainer.step;
        if ranks::any(engine, watch.asked_to_stop()) || step == total_steps {
            trainer.settle()?;
        }
        if ranks::any(engine, false) {
            return Ok(Ended::Stopped { step });
        }
    }
    Ok(Ended::Finished)
}
