//! The sources of a run: each opened once, and found fit before anything is written.
//!
//! Before: the compiler has checked their names. After: `session` trains on one, and judges and draws with others.
//!
//! **Invariant:** what is wrong with a source as a whole ends a run before its first step, never at an evaluation.

use std::sync::Arc;

use super::SessionError;
use crate::data::DataError;
use crate::data::evaluation::probe;
use crate::data::source::{self, Fingerprint, Source};
use crate::eval::Named;
use crate::graph::{InputKind, Program};
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
                    let source = source::open(spec, data.channels).map_err(failed)?;
                    probe(&*source, &format!("data.{name}")).map_err(failed)?;
                    source
                }
            };
            opened.push((spec, name.to_owned(), source));
        }
        let sources = Sources(opened.into_iter().map(|(_, name, source)| (name, source)).collect());
        let reads_labels = program.train.inputs.iter().any(|input| matches!(input.kind, InputKind::Label));
        if reads_labels && sources.get("train").classes().is_empty() {
            let source_name = "train".to_owned();
            let error = DataError::LabelsMissing { source_name: source_name.clone() };
            return Err(SessionError::Data { source_name, error });
        }
        Ok(sources)
    }

    pub(super) fn get(&self, name: &str) -> Arc<dyn Source> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.expect("all that the pipeline evaluates with were opened").1.clone()
    }

    /// As messages call it.
    pub(super) fn named(&self, name: &str) -> Named {
        Named { name: format!("data.{name}"), source: self.get(name) }
    }

    pub(super) fn fingerprints(&self) -> Vec<(String, Fingerprint)> {
        self.0.iter().map(|(name, source)| (name.clone(), source.fingerprint())).collect()
    }
}
