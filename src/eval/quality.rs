//! What a model's features are worth: kNN accuracy and collapse figures, and what they have to beat.
//!
//! Before: `train`, or a checkpoint, gives parameters. After: `run` logs the figures.
//!
//! **Invariant:** nothing is trained, and every figure is over whole sources, padding left out.

use std::sync::Arc;

use super::collapse::{Collapse, collapse};
use super::features::{self, Features, FeaturesError};
use super::knn::{KnnError, accuracy, knn};
use super::map::{FeatureMap, feature_map};
use crate::backend::{Backend, Element};
use crate::data::DataError;
use crate::data::evaluation::EvalBatches;
use crate::data::source::Source;
use crate::graph::{Graph, InputKind, Program};
use crate::spec::KnnSpec;

/// The sources that kNN takes, opened.
pub struct Judge {
    bank: Arc<dyn Source>,
    queries: Arc<dyn Source>,
    spec: KnnSpec,
}

/// Figures of one set of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// Share of queries that kNN classifies right.
    pub accuracy: f64,
    /// Of the queries' features; `None` where a feature is not finite.
    pub collapse: Option<Collapse>,
}

/// Why features could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    #[error("the pipeline has no features (help: add `evaluate {{ features = … }}` to it)")]
    NoFeatures,
    #[error("knn wants labels, and `data.{source_name}` has none (help: put its pictures in a folder for each class)")]
    NoLabels { source_name: String },
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Features(#[from] FeaturesError),
    #[error(transparent)]
    Knn(#[from] KnnError),
}

impl Judge {
    pub fn new(spec: &KnnSpec, bank: Arc<dyn Source>, queries: Arc<dyn Source>) -> Result<Judge, QualityError> {
        for (name, source) in [(&spec.bank, &bank), (&spec.queries, &queries)] {
            if source.classes().is_empty() {
                return Err(QualityError::NoLabels { source_name: name.clone() });
            }
        }
        let k = spec.k;
        if k == 0 || k > bank.len() {
            return Err(KnnError::Neighbours { k, rows: bank.len() }.into());
        }
        Ok(Judge { bank, queries, spec: spec.clone() })
    }

    /// Figures of the features that `arena` gives.
    pub fn model<E: Element>(
        &self,
        backend: &mut dyn Backend<E>,
        program: &Program,
        arena: &[E],
    ) -> Result<Quality, QualityError> {
        Ok(self.of_arena(backend, program, arena)?.0)
    }

    /// The same, with the map of the queries' features, made after `step` steps.
    pub fn model_and_map<E: Element>(
        &self,
        backend: &mut dyn Backend<E>,
        program: &Program,
        arena: &[E],
        step: u64,
    ) -> Result<(Quality, Option<FeatureMap>), QualityError> {
        let (quality, features, labels) = self.of_arena(backend, program, arena)?;
        Ok((quality, feature_map(&features, &labels, self.queries.classes(), step)))
    }

    fn of_arena<E: Element>(
        &self,
        backend: &mut dyn Backend<E>,
        program: &Program,
        arena: &[E],
    ) -> Result<(Quality, Features, Vec<i64>), QualityError> {
        let graph = program.features.as_ref().ok_or(QualityError::NoFeatures)?;
        self.judge(|source| {
            Ok(features::extract(backend, graph, &program.layout, arena, batches(program, graph, source)?)?)
        })
    }

    /// Figures of the evaluation view's pixels.
    pub fn raw_pixels(&self, program: &Program) -> Result<Quality, QualityError> {
        let graph = program.features.as_ref().ok_or(QualityError::NoFeatures)?;
        let view = graph.inputs.iter().find(|input| matches!(input.kind, InputKind::View { .. }));
        let name = &view.ok_or(QualityError::NoFeatures)?.name;
        Ok(self.judge(|source| Ok(features::raw_pixels(name, batches(program, graph, source)?)?))?.0)
    }

    /// Figures of the features that `of` makes, and the queries' features and labels.
    fn judge(
        &self,
        mut of: impl FnMut(&Arc<dyn Source>) -> Result<(Features, Vec<i64>), QualityError>,
    ) -> Result<(Quality, Features, Vec<i64>), QualityError> {
        let (bank, bank_labels) = of(&self.bank)?;
        let (queries, labels) = of(&self.queries)?;
        let found = knn(&bank, &bank_labels, &queries, self.spec.k, self.spec.temperature)?;
        let quality = Quality { accuracy: accuracy(&found.predictions, &labels), collapse: collapse(&queries) };
        Ok((quality, queries, labels))
    }

    /// Accuracy of always answering the queries' most frequent class.
    pub fn chance(&self) -> f64 {
        let mut counts = vec![0usize; self.queries.classes().len()];
        for index in 0..self.queries.len() {
            if let Some(count) = self.queries.label(index).and_then(|label| counts.get_mut(label as usize)) {
                *count += 1;
            }
        }
        counts.into_iter().max().unwrap_or(0) as f64 / self.queries.len().max(1) as f64
    }
}

/// Batches of `source` for an evaluation graph.
pub fn batches(program: &Program, graph: &Graph, source: &Arc<dyn Source>) -> Result<EvalBatches, DataError> {
    let spec = &program.spec;
    EvalBatches::new(source.clone(), &spec.views, &graph.inputs, spec.data.batch_size, spec.train.seed)
}
