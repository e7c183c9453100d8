//! What a run looks at while it trains: the worth of its features, and pictures.
//!
//! Before: `session` has made a step and saved it. After: metrics, `best`, the feature map and the pictures are written.
//!
//! **Invariant:** only a step whose checkpoint is in place is looked at, so that an evaluation that fails loses nothing; one
//! that a kill or an error kept from being made is made when the run is taken up again.

use serde_json::{Map, Value, json};

use super::session::{Baseline, Training};
use super::watch::{Looked, look, quality_error};
use super::{SessionError, Watch, imports, init, reconstruct};
use crate::backend::StepError;
use crate::eval::collapse::Collapse;
use crate::eval::quality::{Accuracy, QualityError};
use crate::eval::{LeftOut, Quality};
use crate::run::{RunError, checkpoint};
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
        let (evaluate, clock, step) = (&self.program.spec.evaluate, self.trainer.clock, self.trainer.step);
        let ends = step == self.total_steps;
        let is_due = |every| step > 0 && (ends || clock.is_due(every, step));
        Due {
            draw: self.drawn != Some(step) && evaluate.reconstructions.as_ref().is_some_and(|spec| is_due(spec.every)),
            judge: self.judged != Some(step) && evaluate.knn.as_ref().is_some_and(|spec| is_due(spec.every)),
        }
    }

    /// Looks at what is due. Who asks to leave meanwhile does not wait for it: nothing is told then, and it is made when the run is
    /// taken up again.
    pub(super) fn look(&mut self, due: Due, watch: &mut dyn Watch) -> Result<Looked, SessionError> {
        for (due, call) in [(due.draw, "reconstructions"), (due.judge, "knn")] {
            let looked = match call {
                _ if !due => continue,
                "knn" => self.judge(watch),
                _ => self.draw(),
            };
            if matches!(looked, Err(SessionError::Quality(QualityError::Stopped))) {
                return Ok(Looked::Stopped);
            }
            if let Err(error) = looked {
                watch.say(&format!(
                    "`{call}` of `evaluate` failed: --resume makes it again and goes on, --resume --set evaluate.{call}=none goes on \
                     without it"
                ));
                return Err(error);
            }
        }
        Ok(Looked::AtAll)
    }

    /// Figures of the untrained encoder and of raw pixels.
    fn baselines(&mut self, watch: &mut dyn Watch) -> Result<(), SessionError> {
        let Some(judge) = &self.judge else { return Ok(()) };
        // A resumed run is past its own initial values, but the seed gives them again.
        let mut initial = init::initialise(&self.program.layout, self.program.spec.train.seed);
        let session = &mut *self.trainer.session;
        imports::copy(self.program, session.tensors().map_err(StepError::from)?, &mut initial);
        let quality = |error| quality_error(self.program, error);
        let trained = session.exchange(initial).map_err(StepError::from)?;
        let untrained = judge.untrained(session, self.program, &mut look(watch)).map_err(quality);
        session.exchange(trained).map_err(StepError::from)?;
        let untrained = untrained?;
        let pixels = match untrained.knn {
            Some(_) => judge.raw_pixels(self.program, &mut look(watch)).map_err(quality)?,
            None => Quality { knn: None, collapse: None, left_out: Vec::new() },
        };
        self.tell_left_out(&untrained.left_out, watch);
        match (untrained.knn, pixels.knn, &untrained.collapse) {
            (Some(untrained), Some(pixels), _) => watch.say(&format!(
                "kNN accuracy to beat{}: untrained encoder {}{}, raw pixels {}{}, chance {}",
                untrained.leave_one_out().trim_end_matches(','),
                percent(untrained.share),
                in_brackets(&untrained.terms()),
                percent(pixels.share),
                in_brackets(&pixels.terms()),
                percent(untrained.chance),
            )),
            (_, _, Some(collapse)) => watch.say(&format!("features of the untrained encoder: {}", spelled(collapse))),
            _ => {}
        }
        self.baseline = Some(Baseline { untrained, pixels });
        Ok(())
    }

    fn judge(&mut self, watch: &mut dyn Watch) -> Result<(), SessionError> {
        // Not before it is needed: a run's first step should not wait for it.
        if self.baseline.is_none() {
            self.baselines(watch)?;
        }
        let (Some(judge), Some(baseline)) = (&self.judge, &self.baseline) else { return Ok(()) };
        let step = self.trainer.step;
        let judged = judge.model(&mut *self.trainer.session, self.program, step, &mut look(watch));
        let (quality, map) = judged.map_err(|error| quality_error(self.program, error))?;
        if let (Some(map), Some(records)) = (map, &self.records) {
            map.write(&records.folder.feature_map()).map_err(RunError::from)?;
        }
        let mut line = format!("after {:.0} epochs:", step as f64 / self.trainer.clock.steps_per_epoch);
        let mut figures = Map::new();
        let mut put = |name: &str, value: f64| drop(figures.insert(name.to_owned(), json!(value)));
        let known = (quality.knn, baseline.untrained.knn, baseline.pixels.knn);
        if let (Some(knn), Some(untrained), Some(pixels)) = known {
            let Accuracy { share, chance, .. } = knn;
            let mut beside = knn.terms();
            beside.push(format!("untrained encoder {}", percent(untrained.share)));
            beside.push(format!("raw pixels {}", percent(pixels.share)));
            line += &format!(" kNN accuracy{} {}{}", knn.leave_one_out(), percent(share), in_brackets(&beside));
            put("knn_accuracy", share);
            put("knn_accuracy_untrained", untrained.share);
            put("knn_accuracy_raw_pixels", pixels.share);
            put("chance", chance);
            if knn.own > 0 {
                put("left_one_out", knn.own as f64);
            }
            for (name, taken) in [("bank_pictures", knn.bank), ("query_pictures", knn.asked)] {
                if !taken.is_all() {
                    put(name, taken.pictures as f64);
                }
            }
        }
        if let Some(collapse) = &quality.collapse {
            line += &match quality.knn {
                Some(_) => format!("; features: {}", rank(collapse)),
                None => format!(" features: {}", spelled(collapse)),
            };
            put("feature_std", collapse.std);
            put("feature_std_uniform", collapse.uniform_std);
            put("effective_rank", collapse.effective_rank);
            put("mean_cosine", collapse.mean_cosine);
        }
        let broken: usize = quality.left_out.iter().map(|left_out| left_out.broken).sum();
        if broken > 0 {
            put("broken_pictures", broken as f64);
        }
        let accuracy = quality.knn.map(|knn| knn.share);
        self.tell_left_out(&quality.left_out, watch);
        watch.say(&line);
        self.judged = Some(step);
        let Some(records) = &mut self.records else { return Ok(()) };
        watch.logged(&records.metrics.write(json!({ "step": step, "evaluation": Value::Object(figures) }))?);
        if let Some(accuracy) = accuracy
            && records.best.is_none_or(|best| accuracy > best)
        {
            records.best = Some(accuracy);
            records.saver.wait()?;
            records.folder.write_best(step)?;
            checkpoint::prune(records.folder, self.program.spec.train.keep)?;
        }
        Ok(())
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

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// ` (one, another)`, or nothing.
fn in_brackets(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) }
}

fn rank(collapse: &Collapse) -> String {
    format!(
        "effective rank {:.1} of {:.0}",
        collapse.effective_rank,
        1.0 / (collapse.uniform_std * collapse.uniform_std)
    )
}

/// All three figures.
fn spelled(collapse: &Collapse) -> String {
    format!(
        "{}, deviation {:.4} (spread evenly: {:.4}), mean cosine {:.3}",
        rank(collapse),
        collapse.std,
        collapse.uniform_std,
        collapse.mean_cosine
    )
}
