//! The sources of a run: each opened once, and found fit before anything is written.
//!
//! Before: the compiler has checked their names. After: `session` trains on one, and judges and draws with others.
//!
//! **Invariant:** what is wrong with a source as a whole ends a run before its first step, never at an evaluation.

use std::sync::Arc;

use super::SessionError;
use crate::data::evaluation::probe;
use crate::data::source::{self, Fingerprint, Source};
use crate::eval::Named;
use crate::graph::Program;
use crate::spec::SourceSpec;

/// By the names that the pipeline gives them.
pub(super) struct Sources(Vec<(String, Arc<dyn Source>)>);

impl Sources {
    /// Those that training and evaluation read. A source that goes by several names is listed once.
    pub(super) fn open(program: &Program) -> Result<Sources, SessionError> {
        let (data, evaluate) = (&program.spec.data, &program.spec.evaluate);
        let judged = evaluate.knn.iter().flat_map(|knn| [knn.bank.as_str(), knn.queries.as_str()]);
        let drawn = evaluate.reconstructions.iter().map(|drawn| drawn.source.as_str());
        let mut opened: Vec<(&SourceSpec, String, Arc<dyn Source>)> = Vec::new();
        for name in ["train"].into_iter().chain(judged).chain(drawn) {
            if opened.iter().any(|(_, other, _)| other == name) {
                continue;
            }
            let failed = |error| SessionError::Data { source_name: name.to_owned(), error };
            let spec = data.source(name).expect("the compiler checks the names of sources");
            let source = match opened.iter().find(|(other, ..)| *other == spec) {
                Some((_, _, source)) => source.clone(),
                None => {
                    let source = source::open(spec, data.channels, data.max_pixels).map_err(failed)?;
                    probe(&*source, &format!("data.{name}")).map_err(failed)?;
                    source
                }
            };
            opened.push((spec, name.to_owned(), source));
        }
        Ok(Sources(opened.into_iter().map(|(_, name, source)| (name, source)).collect()))
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
