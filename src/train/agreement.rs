//! What the ranks of a run agree on before its first step.
//!
//! **Invariant:** every rank comes here, in the order of these functions, or none goes on.

use super::SessionError;
use crate::data::source::Fingerprint;
use crate::graph::Layout;
use crate::ranks::{self, Ranks};
use crate::run::checkpoint::{Checkpoint, State};
use crate::spec::TrainSpec;
use crate::tensor::Element;

/// Every rank reads the same pictures: their numbers and their names, source by source, are those of rank 0.
pub(super) fn same_pictures(engine: &dyn Ranks, own: &[(String, Fingerprint)]) -> Result<(), SessionError> {
    if engine.count() == 1 {
        return Ok(());
    }
    let first = ranks::text_of_first(engine, &ron::to_string(own).expect("fingerprints are plain data"));
    let first: Vec<(String, Fingerprint)> = ron::from_str(&first).expect("it is the text of fingerprints");
    let change = first.iter().zip(own).find_map(|((name, first), (_, own))| Some((name, first.change(own)?)));
    match change {
        None => Ok(()),
        Some((name, change)) => {
            Err(SessionError::OtherPictures { rank: engine.rank(), change: format!("data.{name} {change}") })
        }
    }
}

/// The steps that rank 0 looked at last.
pub(super) fn looked(engine: &dyn Ranks, own: [Option<u64>; 2]) -> [Option<u64>; 2] {
    let mut told: Vec<i64> = own.iter().map(|step| step.map_or(-1, |step| step as i64)).collect();
    ranks::of_first(engine, &mut told);
    std::array::from_fn(|at| told.get(at).and_then(|step| u64::try_from(*step).ok()))
}

/// The checkpoint that rank 0 goes on from, on all ranks; a folder need not be seen by the others.
pub(super) fn share<E: Element>(
    engine: &dyn Ranks,
    layout: &Layout,
    train: &TrainSpec,
    taken_up: &mut Option<Checkpoint<E>>,
) {
    if engine.count() == 1 {
        return;
    }
    let state = taken_up.as_ref().map(|checkpoint| &checkpoint.state);
    let state: Option<State> =
        ron::from_str(&ranks::text_of_first(engine, &ron::to_string(&state).expect("a state is plain data")))
            .expect("it is the text of a state");
    let Some(state) = state else { return };
    let checkpoint = taken_up.get_or_insert_with(|| Checkpoint {
        state,
        arena: vec![E::ZERO; layout.total_len],
        slots: vec![vec![E::ZERO; layout.trained_len]; train.optimizer.slots().len()],
    });
    for values in [&mut checkpoint.arena].into_iter().chain(&mut checkpoint.slots) {
        for values in values.chunks_mut(CHUNK) {
            engine.broadcast(0, E::values_mut(values));
        }
    }
}

/// Values that are sent at once: a message's count is a number of 32 bits.
const CHUNK: usize = 1 << 24;
