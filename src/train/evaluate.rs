//! What a run looks at while it trains: the worth of its features, and pictures.
//!
//! Before: `session` has made a step and saved it. After: metrics, `best`, the feature map and the pictures are written.
//!
//! **Invariant:** only a step whose checkpoint is in place is looked at, so that an evaluation that fails loses nothing; one
//! that a kill or an error kept from being made is made when the run is taken up again.

use std::path::Path;

use image::RgbImage;
use serde_json::{Value, json};

use super::figures::{Figures, OfLogits, in_brackets, percent, spelled};
use super::session::{Baseline, Training};
use super::watch::{Looked, look, quality_error};
use super::{SessionError, Watch, imports, init, reconstruct};
use crate::backend::StepError;
use crate::eval::neighbours::{self, Near};
use crate::eval::pictures::write_png;
use crate::eval::quality::QualityError;
use crate::eval::{LeftOut, Named, Quality, looks, segment_sheet};
use crate::run::{RunError, checkpoint};
use crate::spec::{Duration, Evaluation};
use crate::tensor::Element;

/// What is to be looked at after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    draw: bool,
    judge: bool,
}

impl Due {
    pub(super) fn any(self) -> bool {
        self.draw || self.judge
    }
}

impl<E: Element> Training<'_, E> {
    /// What is due after the steps that were made, and was not made yet: by its period, or as the run ends.
    pub(super) fn due(&self) -> Due {
        let (evaluate, step) = (&self.program.spec.evaluate, self.trainer.step);
        let drawn = evaluate.reconstructions.as_ref();
        Due {
            draw: self.drawn != Some(step) && drawn.is_some_and(|spec| self.is_due(spec.every)),
            judge: self.judged != Some(step) && !self.due_names().is_empty(),
        }
    }

    /// What is judged now, by name.
    fn due_names(&self) -> Vec<&str> {
        let evaluate = &self.program.spec.evaluate;
        let evaluations = evaluate.evaluations.iter().map(|evaluation| (evaluation.name.as_str(), evaluation.every()));
        let classifications = evaluate.classifications.iter().map(|other| (other.name.as_str(), other.every));
        let segmentations = evaluate.segmentations.iter().map(|other| (other.name.as_str(), other.every));
        evaluations
            .chain(classifications)
            .chain(segmentations)
            .filter(|(_, every)| self.is_due(*every))
            .map(|(name, _)| name)
            .collect()
    }

    /// Whether what is made every so often is to be made now.
    fn is_due(&self, every: Duration) -> bool {
        let (clock, step) = (self.trainer.clock, self.trainer.step);
        step > 0 && (step == self.total_steps || clock.is_due(every, step))
    }

    /// Looks at what is due. Who asks to leave meanwhile does not wait for it: nothing is told then, and it is made when the run is
    /// taken up again.
    pub(super) fn look(&mut self, due: Due, watch: &mut dyn Watch) -> Result<Looked, SessionError> {
        for judges in [false, true] {
            let looked = match judges {
                true if due.judge => self.judge(watch),
                false if due.draw => self.draw(),
                _ => continue,
            };
            if matches!(looked, Err(SessionError::Quality(QualityError::Stopped))) {
                return Ok(Looked::Stopped);
            }
            if let Err(error) = looked {
                let failed = if judges { self.due_names() } else { vec!["reconstructions"] };
                let quoted: Vec<String> = failed.iter().map(|name| format!("`{name}`")).collect();
                let off: Vec<String> = failed.iter().map(|name| format!(" --set evaluate.{name}=none")).collect();
                watch.say(&format!(
                    "{} of `evaluate` failed: --resume makes it again and goes on, --resume{} goes on without it",
                    quoted.join(", "),
                    off.concat()
                ));
                return Err(error);
            }
        }
        Ok(Looked::AtAll)
    }

    /// Figures of the untrained encoder and of raw pixels.
    fn baselines(&mut self, watch: &mut dyn Watch) -> Result<(), SessionError> {
        if self.judges.is_empty() {
            self.baseline = Some(Baseline { untrained: Quality::default(), pixels: Quality::default() });
            return Ok(());
        }
        // A resumed run is past its own initial values, but the seed gives them again.
        let mut initial = init::initialise(&self.program.layout, self.program.spec.train.seed);
        let session = &mut *self.trainer.session;
        imports::copy(self.program, session.tensors().map_err(StepError::from)?, &mut initial);
        let trained = session.exchange(initial).map_err(StepError::from)?;
        let (mut untrained, mut pixels) = (Quality::default(), Quality::default());
        // The trained values come back whatever goes wrong.
        let mut failed = None;
        for judge in &self.judges {
            match judge.untrained(session, self.program, &mut look(watch)) {
                Ok(found) => untrained.append(found),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        session.exchange(trained).map_err(StepError::from)?;
        let quality = |error| quality_error(self.program, error);
        if let Some(error) = failed {
            return Err(quality(error));
        }
        for judge in self.judges.iter().filter(|judge| judge.no_labels().is_none()) {
            pixels.append(judge.raw_pixels(self.program, &mut look(watch)).map_err(quality)?);
        }
        self.tell_left_out(&untrained.left_out, watch);
        for evaluation in &self.program.spec.evaluate.evaluations {
            let of = |quality: &Quality| quality.accuracy(&evaluation.name).cloned();
            let (Some(untrained), Some(pixels)) = (of(&untrained), of(&pixels)) else { continue };
            watch.say(&format!(
                "{} accuracy to beat{}: untrained encoder {}{}, raw pixels {}{}, chance {}",
                evaluation.title(),
                untrained.leave_one_out().trim_end_matches(','),
                percent(untrained.share),
                in_brackets(&untrained.terms()),
                percent(pixels.share),
                in_brackets(&pixels.terms()),
                percent(untrained.chance),
            ));
        }
        if let (true, Some(collapse)) = (untrained.accuracies.is_empty(), untrained.of_features()) {
            watch.say(&format!("features of the untrained encoder: {}", spelled(collapse)));
        }
        self.baseline = Some(Baseline { untrained, pixels });
        Ok(())
    }

    fn judge(&mut self, watch: &mut dyn Watch) -> Result<(), SessionError> {
        // Not before it is needed: a run's first step should not wait for it.
        if self.baseline.is_none() {
            self.baselines(watch)?;
        }
        let (program, step) = (self.program, self.trainer.step);
        let names: Vec<String> = self.due_names().into_iter().map(str::to_owned).collect();
        let due: Vec<&Evaluation> =
            program.spec.evaluate.evaluations.iter().filter(|evaluation| names.contains(&evaluation.name)).collect();
        let is_due = |evaluation: &Evaluation| due.contains(&evaluation);
        let (mut quality, mut map, mut near) = (Quality::default(), None, None);
        for judge in self.judges.iter().filter(|judge| judge.evaluations().iter().any(is_due)) {
            let judged = judge.model(&mut *self.trainer.session, program, (&is_due, step), &mut look(watch));
            let found = judged.map_err(|error| quality_error(program, error))?;
            quality.append(found.quality);
            map = map.or(found.map);
            let (bank, queries) = judge.sources();
            near = near.or((!found.near.is_empty()).then(|| (found.near, bank.clone(), queries.clone())));
        }
        let mut of_logits = OfLogits::default();
        for classifier in self.classifiers.iter().filter(|classifier| names.contains(&classifier.spec().name)) {
            let made = classifier.classify(&mut *self.trainer.session, program, step, &mut look(watch));
            let (found, without) = made.map_err(|error| quality_error(program, error))?;
            // What a judge went over before is told once.
            quality.left_out.extend(without.filter(|without| !quality.left_out.contains(without)));
            of_logits.classified.extend(found.map(|found| (classifier.spec(), found)));
        }
        for segmenter in self.segmenters.iter().filter(|segmenter| names.contains(&segmenter.spec().name)) {
            let made = segmenter.segment(&mut *self.trainer.session, program, step, &mut look(watch));
            let (found, without) = made.map_err(|error| quality_error(program, error))?;
            quality.left_out.extend(without.filter(|without| !quality.left_out.contains(without)));
            of_logits.segmented.extend(found.map(|found| (segmenter.spec(), found)));
        }
        let OfLogits { classified, segmented } = &of_logits;
        if let (Some((_, found)), Some(records)) = (classified.first(), &self.records) {
            found.write(&records.folder.classified()).map_err(RunError::from)?;
        }
        if let (Some((_, found)), Some(records)) = (segmented.first(), &self.records) {
            found.write(&records.folder.segmented()).map_err(RunError::from)?;
        }
        if let (Some(map), Some(records)) = (map, &self.records) {
            map.write(&records.folder.feature_map()).map_err(RunError::from)?;
        }
        let Some(baseline) = &self.baseline else { return Ok(()) };
        let Figures { line, values } = Figures::of(&due, &quality, baseline, &of_logits);
        let accuracy = program.spec.evaluate.names().next().and_then(|first| {
            let of_logits = || classified.iter().find(|(spec, _)| spec.name == first).map(|(_, found)| found.top1);
            let of_pixels = || segmented.iter().find(|(spec, _)| spec.name == first).map(|(_, found)| found.mean_iou);
            quality.accuracy(first).map(|found| found.share).or_else(of_logits).or_else(of_pixels)
        });
        self.tell_left_out(&quality.left_out, watch);
        watch.say(&format!("after {:.0} epochs:{line}", step as f64 / self.trainer.clock.steps_per_epoch));
        self.judged = Some(step);
        self.draw_judged(near, &names, watch);
        let Some(records) = &mut self.records else { return Ok(()) };
        watch.logged(&records.metrics.write(json!({ "step": step, "evaluation": Value::Object(values) }))?);
        if let Some(accuracy) = accuracy
            && records.best.is_none_or(|best| accuracy > best)
        {
            records.best = Some(accuracy);
            records.saver.wait()?;
            records.folder.write_best(step)?;
            checkpoint::prune(records.folder, program.spec.train.keep)?;
        }
        Ok(())
    }

    /// Pictures with their neighbours, of those that were judged by `names` with the classes of their pixels, and at the run's end what becomes of patches. A run does not end for a picture of it.
    fn draw_judged(&mut self, near: Option<(Vec<Near>, Named, Named)>, names: &[String], watch: &mut dyn Watch) {
        let Some(records) = &self.records else { return };
        let mut write = |path: &Path, image: Result<RgbImage, String>| {
            let written = image.and_then(|image| write_png(path, &image).map_err(|error| error.to_string()));
            if let Err(error) = written {
                watch.say(&format!("warning: {} is not drawn: {error}", path.display()));
            }
        };
        if let Some((near, bank, queries)) = near {
            let drawn = neighbours::sheet(&near, &bank, &queries);
            write(&records.folder.neighbours(), drawn.map(|drawn| drawn.image).map_err(|error| error.to_string()));
        }
        let segmenter = self.segmenters.first().filter(|segmenter| names.contains(&segmenter.spec().name));
        if let Some(segmenter) = segmenter {
            let (session, source) = (&mut *self.trainer.session, segmenter.source());
            let drawn = segment_sheet::sheet(session, self.program, segmenter.spec(), source, neighbours::ASKING);
            write(&records.folder.segmented_picture(), drawn.map_err(|error| error.to_string()));
        }
        // Once: it is another graph, which accelerators compile.
        let is_last = self.trainer.step == self.total_steps && looks::can_be_drawn(self.program);
        if let Some(judge) = self.judges.first().filter(|_| is_last) {
            let session = &mut *self.trainer.session;
            let drawn = looks::looks(session, self.program, judge.sources().1, neighbours::ASKING);
            write(&records.folder.patches(), drawn.map(|drawn| drawn.image).map_err(|error| error.to_string()));
        }
    }

    fn draw(&mut self) -> Result<(), SessionError> {
        let Some(spec) = &self.program.spec.evaluate.reconstructions else { return Ok(()) };
        self.drawn = Some(self.trainer.step);
        // Some pictures: the others wait for the one that draws them.
        let Some(records) = &mut self.records else { return Ok(()) };
        let path = records.folder.make_reconstructions(self.trainer.step)?;
        let source = self.sources.named(&spec.source);
        reconstruct::write(&mut *self.trainer.session, self.program, spec, &source, &path)?;
        if self.program.pictures.is_some() {
            records.metrics.picture(self.trainer.step, &path)?;
        }
        Ok(())
    }

    /// Says what an evaluation went without, unless the one before it did.
    fn tell_left_out(&mut self, left_out: &[LeftOut], watch: &mut dyn Watch) {
        if self.left_out != left_out {
            left_out.iter().for_each(|left_out| watch.say(&format!("warning: {left_out}")));
            self.left_out = left_out.to_vec();
        }
    }
}
