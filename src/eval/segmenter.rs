//! Judges classes of pixels, which the evaluation graph gives beside the label maps.
//!
//! Before: `train`, or a checkpoint, gives parameters. After: [`super::segment`] sums up the figures.
//!
//! **Invariant:** every figure is over all chosen pictures that can be read with their label maps.

use std::sync::Arc;

use super::chosen::{Chosen, Named};
use super::features::{self, FeaturesError};
use super::judge::batches;
use super::pass::{Look, Pass};
use super::quality::QualityError;
use super::segment::{Counts, Segmented, counted};
use super::shared::{LeftOut, Sink, left_out, shared};
use crate::backend::Session;
use crate::data::evaluation::EvalBatches;
use crate::graph::Program;
use crate::ranks::{self, Ranks};
use crate::spec::Segmentation;
use crate::tensor::{Element, HostTensor, OutputValue};

/// The source of a segmentation, opened. Ranks share the pictures; each has the figures.
pub struct Segmenter {
    ranks: Arc<dyn Ranks>,
    spec: Segmentation,
    queries: Chosen,
}

impl Segmenter {
    pub fn new(spec: &Segmentation, queries: Named, ranks: Arc<dyn Ranks>) -> Segmenter {
        let queries = Chosen::new(queries, spec.query_limit, "evaluate.segment.queries");
        Segmenter { ranks, spec: spec.clone(), queries }
    }

    pub fn spec(&self) -> &Segmentation {
        &self.spec
    }

    /// Where its pictures come from.
    pub fn source(&self) -> &Named {
        &self.queries.named
    }

    /// Figures of what `session`, one of `program`, takes pixels for after `step` steps; none where no pixel has a class. And what was
    /// left out.
    pub fn segment<E: Element>(
        &self,
        session: &mut dyn Session<E>,
        program: &Program,
        step: u64,
        look: Look<'_>,
    ) -> Result<(Option<Segmented>, Option<LeftOut>), QualityError> {
        let (engine, graph) = (&*self.ranks, program.features.as_ref().ok_or(QualityError::NoFeatures)?);
        let Segmentation { output, wanted, classes, .. } = &self.spec;
        let (outputs, of) = ([output.clone(), wanted.clone()], self.queries.images.len());
        let batches = batches(program, graph, &outputs, &self.queries.named.source, self.queries.images.clone())?;
        let mut batches = batches.of_rank(engine.rank(), engine.count());
        let mut tell = |done: usize| match ranks::any(engine, look(Pass { what: "pixels", done, of }).is_break()) {
            false => Ok(()),
            true => Err(QualityError::Stopped),
        };
        let (mut counts, mut done) = (Counts::new(*classes), 0);
        let make = |batches: &mut EvalBatches, sink: Sink<'_, QualityError>| {
            let rows = |_, inputs: &[_]| match &session.evaluate(graph, inputs, &outputs)?[..] {
                [OutputValue::Int(taken), OutputValue::Int(wanted)] => self.rows(taken, wanted),
                _ => Err(FeaturesError::Output { name: output.clone(), found: "no classes of pixels".to_owned() }),
            };
            features::each(batches, rows, sink)
        };
        shared(engine, &mut batches, make, &mut |made| {
            (0..made.features.rows).for_each(|row| counts.add(made.features.row(row)));
            done += made.rows.len();
            tell(done)
        })?;
        tell(of)?;
        let left_out = left_out(engine, &batches, &self.queries.named.name)?;
        Ok((counts.finish(step), left_out))
    }

    /// Counts of each picture of a batch, `[B, 3 · classes]`.
    fn rows(&self, taken: &HostTensor<i64>, wanted: &HostTensor<i64>) -> Result<HostTensor<f32>, FeaturesError> {
        let (pictures, classes) = (taken.shape.first().copied().unwrap_or(0), self.spec.classes);
        let pixels = taken.data.len() / pictures.max(1);
        let mut data = Vec::with_capacity(pictures * 3 * classes);
        for (taken, wanted) in taken.data.chunks_exact(pixels.max(1)).zip(wanted.data.chunks_exact(pixels.max(1))) {
            data.extend(counted(taken, wanted, classes).map_err(|found| FeaturesError::Classes {
                name: self.spec.name.clone(),
                found,
                classes,
            })?);
        }
        Ok(HostTensor { shape: vec![pictures, 3 * classes], data })
    }
}
