//! What a run that is taken up again has to agree on with the one that was started, and what is told of it.
//!
//! Before: a checkpoint that is whole. After: `session` trains on as if nothing had happened.

use super::Watch;
use crate::data::source::Fingerprint;
use crate::graph::Program;
use crate::run::changes::changes;
use crate::run::checkpoint::{State, machine};
use crate::run::{RunError, RunFolder};
use crate::spec::TrainSpec;

/// Says where a run goes on, and what makes its numbers differ from those of one that never stopped.
pub(super) fn tell_other_machine(state: &State, backend: &str, ranks: usize, watch: &mut dyn Watch) {
    watch.say(&format!("resuming after step {}", state.step));
    let ranks_text = |count: usize| format!("{count} rank{}", if count == 1 { "" } else { "s" });
    for (what, found, now) in [
        ("on", state.machine.clone(), machine()),
        ("with backend", state.backend.clone(), backend.to_owned()),
        ("by", ranks_text(state.ranks), ranks_text(ranks)),
    ] {
        if found != now {
            watch.say(&format!(
                "warning: the checkpoint was made {what} {found}, this is {now}: results agree within rounding only"
            ));
        }
    }
}

pub(super) fn slot_names(train: &TrainSpec) -> Vec<String> {
    train.optimizer.slots().iter().map(|name| (*name).to_owned()).collect()
}

/// Refuses a checkpoint of another optimizer, whose folder somebody put together by hand.
pub(super) fn check_slots(folder: &RunFolder, train: &TrainSpec, state: &State) -> Result<(), RunError> {
    let wanted = slot_names(train);
    if state.slots == wanted {
        return Ok(());
    }
    let what = format!(
        "its checkpoint holds `{}` of the optimizer, `{}` is wanted",
        state.slots.join("`, `"),
        wanted.join("`, `"),
    );
    Err(RunError::OtherTensors { path: folder.path().to_owned(), what })
}

/// Refuses to resume with another graph or other settings than the run was started with, unless they are accepted.
pub(super) fn check_changes(
    folder: &RunFolder,
    program: &Program,
    accept: bool,
    watch: &mut dyn Watch,
) -> Result<(), RunError> {
    let path = || folder.path().to_owned();
    let found = changes(&folder.program()?, program).map_err(|what| RunError::OtherTensors { path: path(), what })?;
    if accept {
        found.iter().for_each(|change| watch.say(&format!("warning: going on although {change}")));
    } else if !found.is_empty() {
        return Err(RunError::OtherSettings { path: path(), what: found.join("\n") });
    }
    Ok(())
}

/// Refuses pictures that came, went, or were renamed since the checkpoint: the steps of an epoch, their order and all labels go
/// by them. Sources that only one of both reads are not compared.
pub(super) fn check_sources(
    folder: &RunFolder,
    state: &State,
    now: &[(String, Fingerprint)],
    accept: bool,
    watch: &mut dyn Watch,
) -> Result<(), RunError> {
    if state.sources.is_empty() {
        watch.say(
            "warning: the checkpoint is of a version that did not note its pictures: whether they changed is not known",
        );
        return Ok(());
    }
    let before = |name: &str| state.sources.iter().find(|(other, _)| other == name).map(|(_, before)| before);
    let change = |(name, now): &(String, Fingerprint)| Some(format!("data.{name} {}", before(name)?.change(now)?));
    let found: Vec<String> = now.iter().filter_map(change).collect();
    if accept {
        found.iter().for_each(|change| watch.say(&format!("warning: going on although {change}")));
    } else if !found.is_empty() {
        return Err(RunError::OtherPictures { path: folder.path().to_owned(), what: found.join("\n") });
    }
    Ok(())
}
