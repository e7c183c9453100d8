//! Checkpoints that are written while training goes on.
//!
//! Before: `train` hands over what a checkpoint holds. After: a thread writes a copy of it, which no later step can touch.
//!
//! **Invariant:** checkpoints come into place in the order in which they were handed over, one at a time; what went wrong with one is
//! told before the next is begun, and at the latest as the run ends.

use std::borrow::Cow;
use std::sync::Arc;
use std::thread::JoinHandle;

use rayon::prelude::*;

use super::checkpoint::{NewCheckpoint, State};
use super::{RunError, RunFolder};
use crate::graph::Layout;
use crate::tensor::Element;

/// Values that a thread copies at once.
const CHUNK: usize = 1 << 18;

pub struct Saver<E> {
    folder: Arc<RunFolder>,
    layout: Arc<Layout>,
    keep: usize,
    writing: Option<JoinHandle<Result<Copied<E>, RunError>>>,
    /// Memory of an earlier copy.
    spare: Copied<E>,
}

/// What a checkpoint holds of a session, copied.
#[derive(Debug, Default)]
struct Copied<E> {
    arena: Vec<E>,
    slots: Vec<Vec<E>>,
}

impl<E: Element> Saver<E> {
    /// Writes to `folder`, where the newest `keep` checkpoints stay.
    pub fn new(folder: &RunFolder, layout: &Layout, keep: usize) -> Self {
        let spare = Copied { arena: Vec::new(), slots: Vec::new() };
        Saver { folder: Arc::new(folder.unlocked()), layout: Arc::new(layout.clone()), keep, writing: None, spare }
    }

    /// Begins to write the checkpoint of `state`; of the one before it is waited for. Where there is no memory for a copy, or no thread,
    /// it is written before this returns.
    pub fn save(&mut self, state: State, arena: &[E], slots: Cow<'_, [Vec<E>]>) -> Result<(), RunError> {
        self.wait()?;
        let spare = std::mem::take(&mut self.spare);
        let copied = match slots {
            Cow::Borrowed(slots) => spare.of(arena, slots).ok_or(slots),
            // Made for this checkpoint.
            Cow::Owned(slots) => match (Copied { arena: spare.arena, slots: Vec::new() }).of(arena, &[]) {
                Some(copied) => Ok(Copied { slots, ..copied }),
                None => {
                    let new = NewCheckpoint { state, arena, slots: &slots };
                    return new.save(&self.folder, &self.layout, self.keep).map(drop);
                }
            },
        };
        let copied = match copied {
            Ok(copied) => copied,
            Err(slots) => {
                let new = NewCheckpoint { state, arena, slots };
                return new.save(&self.folder, &self.layout, self.keep).map(drop);
            }
        };
        let (folder, layout, keep) = (self.folder.clone(), self.layout.clone(), self.keep);
        let write = move || {
            NewCheckpoint { state, arena: &copied.arena, slots: &copied.slots }.save(&folder, &layout, keep)?;
            Ok(copied)
        };
        let name = "cmae-checkpoint".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(write);
        self.writing = Some(thread.map_err(RunError::io("write a checkpoint in", self.folder.path()))?);
        Ok(())
    }

    /// What went wrong with a checkpoint that is written by now.
    pub fn poll(&mut self) -> Result<(), RunError> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) { self.wait() } else { Ok(()) }
    }

    /// Returns when all checkpoints that were handed over are in place.
    pub fn wait(&mut self) -> Result<(), RunError> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        match writing.join() {
            Ok(written) => {
                self.spare = written?;
                Ok(())
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<E> Drop for Saver<E> {
    fn drop(&mut self) {
        // Whoever wanted to know how it went has waited; the folder is left as a whole one in any case.
        if let Some(writing) = self.writing.take() {
            let _ = writing.join();
        }
    }
}

impl<E: Element> Copied<E> {
    /// A copy of these in the memory of this one; `None` where there is not enough.
    fn of(mut self, arena: &[E], slots: &[Vec<E>]) -> Option<Self> {
        self.slots.resize_with(slots.len(), Vec::new);
        let from = [arena].into_iter().chain(slots.iter().map(Vec::as_slice));
        for (to, from) in [&mut self.arena].into_iter().chain(&mut self.slots).zip(from) {
            to.try_reserve_exact(from.len().saturating_sub(to.len())).ok()?;
            to.resize(from.len(), E::default());
            let chunks = to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK));
            chunks.for_each(|(to, from)| to.copy_from_slice(from));
        }
        Some(self)
    }
}
