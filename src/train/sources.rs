//! The sources of a run: each opened once, and found fit before anything is written.
//!
//! Before: the compiler has checked their names. After: `session` trains on one, and judges and draws with others.
//!
//! **Invariant:** what is wrong with a source as a whole ends a run before its first step, never at an evaluation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, bounded};

use super::SessionError;
use super::watch::Watch;
use crate::data::evaluation::probe;
use crate::data::source::{self, Fingerprint, Opening, Source};
use crate::eval::Named;
use crate::graph::Program;
use crate::run::{RunError, RunFolder};
use crate::spec::SourceSpec;

/// Between two looks at how far a list is.
const LISTED_EVERY: Duration = Duration::from_millis(250);

/// By the names that the pipeline gives them.
pub(super) struct Sources(Vec<(String, Arc<dyn Source>)>);

impl Sources {
    /// Those that training and evaluation read. A source that goes by several names is listed once, and what `folder` has kept of it
    /// not again.
    pub(super) fn open(
        program: &Program,
        folder: Option<&RunFolder>,
        watch: &mut dyn Watch,
    ) -> Result<Sources, SessionError> {
        let (data, evaluate) = (&program.spec.data, &program.spec.evaluate);
        let drawn = evaluate.reconstructions.iter().map(|drawn| drawn.source.as_str());
        let mut opened: Vec<(&SourceSpec, String, Arc<dyn Source>)> = Vec::new();
        for name in ["train"].into_iter().chain(evaluate.sources()).chain(drawn) {
            if opened.iter().any(|(_, other, _)| other == name) {
                continue;
            }
            let failed = |error| SessionError::Data { source_name: name.to_owned(), error };
            let spec = data.source(name).expect("the compiler checks the names of sources");
            let source = match opened.iter().find(|(other, ..)| *other == spec) {
                Some((_, _, source)) => source.clone(),
                None => {
                    let kept = folder.map(|folder| folder.source_list(name));
                    let open = |listed: &AtomicUsize| {
                        source::open_as(spec, data.channels, data.max_pixels, Opening { listed, kept: kept.as_deref() })
                    };
                    let source = listing(&format!("data.{name}"), watch, open).map_err(failed)?;
                    probe(&*source, &format!("data.{name}")).map_err(failed)?;
                    source
                }
            };
            opened.push((spec, name.to_owned(), source));
        }
        Ok(Sources(opened.into_iter().map(|(_, name, source)| (name, source)).collect()))
    }

    /// Keeps in `folder` what need not be found out again.
    pub(super) fn keep(&self, folder: &RunFolder) -> Result<(), RunError> {
        for (at, (name, source)) in self.0.iter().enumerate() {
            let is_first = !self.0[..at].iter().any(|(_, other)| Arc::ptr_eq(other, source));
            if let (true, Some(mut writes)) = (is_first, source.keeps()) {
                folder.keep_source_list(name, &mut writes)?;
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Arc<dyn Source> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.expect("all that the pipeline evaluates with were opened").1.clone()
    }

    /// As messages call it.
    pub(super) fn named(&self, name: &str) -> Named {
        Named { name: format!("data.{name}"), source: self.get(name) }
    }

    /// What each holds, in lines for people.
    pub(super) fn describe(&self) -> Vec<String> {
        self.0.iter().flat_map(|(name, source)| source::describe(&format!("data.{name}"), &**source)).collect()
    }

    /// What there is to say of the pictures that were read since the last call.
    pub(super) fn noticed(&self) -> Vec<String> {
        let of = |(name, source): &(String, Arc<dyn Source>)| {
            source.noticed().into_iter().map(move |line| format!("data.{name}: {line}")).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    pub(super) fn fingerprints(&self) -> Vec<(String, Fingerprint)> {
        self.0.iter().map(|(name, source)| (name.clone(), source.fingerprint())).collect()
    }
}

/// Tells `watch` of what `open` has listed while it is at it.
fn listing<T: Send>(name: &str, watch: &mut dyn Watch, open: impl FnOnce(&AtomicUsize) -> T + Send) -> T {
    let listed = AtomicUsize::new(0);
    let (done, is_done) = bounded::<()>(1);
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let opened = open(&listed);
            // Who waits for it is there until this thread has ended.
            drop(done);
            opened
        });
        while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(LISTED_EVERY) {
            watch.listing(name, Some(listed.load(Ordering::Relaxed)));
        }
        watch.listing(name, None);
        opening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
