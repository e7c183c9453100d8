//! Classifies the pictures of a source by logits of the evaluation graph.
//!
//! Before: `train`, or a checkpoint, gives parameters. After: [`super::classify`] sums up the figures.
//!
//! **Invariant:** classes of two sources meet by their names alone, and every figure is over all chosen pictures that can be read.

use std::sync::Arc;

use super::chosen::{Chosen, Named};
use super::classify::{Classified, ClassifyError, Verdicts};
use super::features;
use super::judge::batches;
use super::pass::{Look, Pass};
use super::quality::QualityError;
use super::shared::{LeftOut, Sink, left_out, shared};
use crate::backend::Session;
use crate::data::evaluation::EvalBatches;
use crate::data::source;
use crate::graph::Program;
use crate::ranks::{self, Ranks};
use crate::spec::Classification;
use crate::tensor::Element;

/// The sources of a classification, opened. Ranks share the pictures; each has the figures.
pub struct Classifier {
    ranks: Arc<dyn Ranks>,
    spec: Classification,
    /// What logits count.
    classes: Vec<String>,
    queries: Chosen,
    /// For each class of the queries, its place among the logits.
    labels: Vec<i64>,
}

impl Classifier {
    /// Finds what can be known before anything is computed: whether the logits of `program` count the classes of `known`, and which of
    /// them those of `queries` are.
    pub fn new(
        spec: &Classification,
        program: &Program,
        known: &Named,
        queries: Named,
        ranks: Arc<dyn Ranks>,
    ) -> Result<Classifier, QualityError> {
        let name = spec.name.clone();
        for source in [known, &queries] {
            if source.source.classes().is_empty() {
                return Err(ClassifyError::NoLabels { name, source_name: source.name.clone() }.into());
            }
        }
        let classes = known.source.classes().to_vec();
        let graph = program.features.as_ref();
        let logits = graph.and_then(|graph| graph.node(graph.output(&spec.output)?).ty.shape.last().copied());
        let found = logits.ok_or(QualityError::NoFeatures)?;
        if found != classes.len() {
            let source_name = known.name.clone();
            return Err(ClassifyError::Classes { name, found, expected: classes.len(), source_name }.into());
        }
        let labels = source::join(&*known.source, &*queries.source, (&known.name, &queries.name))?;
        let queries = Chosen::new(queries, spec.query_limit, "evaluate.classify.queries");
        Ok(Classifier { ranks, spec: spec.clone(), classes, queries, labels })
    }

    pub fn spec(&self) -> &Classification {
        &self.spec
    }

    /// Figures of the logits of `session`, one of `program`, made after `step` steps; none where no picture has a class. And what was
    /// left out.
    pub fn classify<E: Element>(
        &self,
        session: &mut dyn Session<E>,
        program: &Program,
        step: u64,
        look: Look<'_>,
    ) -> Result<(Option<Classified>, Option<LeftOut>), QualityError> {
        let (engine, graph) = (&*self.ranks, program.features.as_ref().ok_or(QualityError::NoFeatures)?);
        let (outputs, of) = ([self.spec.output.clone()], self.queries.images.len());
        let batches = batches(program, graph, &outputs, &self.queries.named.source, self.queries.images.clone())?;
        let mut batches = batches.of_rank(engine.rank(), engine.count());
        let mut tell = |done: usize| match ranks::any(engine, look(Pass { what: "classes", done, of }).is_break()) {
            false => Ok(()),
            true => Err(QualityError::Stopped),
        };
        let (mut verdicts, mut done) = (Verdicts::default(), 0);
        let make = |batches: &mut EvalBatches, sink: Sink<'_, QualityError>| {
            features::extract_all(session, graph, &outputs, batches, sink)
        };
        shared(engine, &mut batches, make, &mut |made| {
            let class = |label: &i64| usize::try_from(*label).ok().and_then(|label| self.labels.get(label).copied());
            let classes: Vec<i64> = made.labels.iter().map(|label| class(label).unwrap_or(-1)).collect();
            verdicts.add(&made.features, &classes)?;
            done += made.rows.len();
            tell(done)
        })?;
        tell(of)?;
        let left_out = left_out(engine, &batches, &self.queries.named.name)?;
        Ok((verdicts.finish(&self.classes, step), left_out))
    }
}
