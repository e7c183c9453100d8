//! What the terminal's view shows: curves of the run so far, and the last lines said.
//!
//! **Invariant:** its size does not grow with the run.

use std::collections::VecDeque;
use std::time::Duration;

use cmae::run::figures::{figures, step};
use cmae::run::metrics::accuracies;
use cmae::spec::evaluate::title;
use cmae::train::StepLine;
use serde_json::Value;

/// Points of a curve; more than a terminal has columns and dots.
const POINTS: usize = 1024;
/// Speeds kept: a column each.
const SPEEDS: usize = 512;
/// Lines kept.
const LINES: usize = 1000;

/// A curve that gets coarser as it grows: each point is the mean of `stride` values.
#[derive(Debug, Clone)]
pub struct Curve {
    pub points: Vec<(f64, f64)>,
    stride: usize,
    /// Values in the last point.
    in_last: usize,
}

impl Default for Curve {
    fn default() -> Self {
        Curve { points: Vec::new(), stride: 1, in_last: 1 }
    }
}

impl Curve {
    /// A value that is not finite is left out.
    pub fn push(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            return;
        }
        if let Some(last) = self.points.last_mut()
            && self.in_last < self.stride
        {
            self.in_last += 1;
            let share = 1.0 / self.in_last as f64;
            *last = (last.0 + (x - last.0) * share, last.1 + (y - last.1) * share);
            return;
        }
        if self.points.len() == POINTS {
            let mean = |pair: &[(f64, f64)]| ((pair[0].0 + pair[1].0) / 2.0, (pair[0].1 + pair[1].1) / 2.0);
            self.points = self.points.chunks_exact(2).map(mean).collect();
            self.stride *= 2;
        }
        self.points.push((x, y));
        self.in_last = 1;
    }

    pub fn last(&self) -> Option<f64> {
        self.points.last().map(|(_, y)| *y)
    }
}

#[derive(Default)]
pub struct State {
    /// Name of the run.
    pub title: String,
    pub step: u64,
    pub total_steps: u64,
    pub epoch: f64,
    pub losses: Vec<(String, Curve)>,
    pub learning_rate: Curve,
    /// What the accuracy is of, and the accuracy: of kNN, where it judges.
    pub judged_by: String,
    pub accuracy: Curve,
    /// The last accuracies of other evaluations.
    pub others: Vec<(String, f64)>,
    /// What the accuracy has to beat, by name.
    pub baselines: Vec<(&'static str, f64)>,
    /// Images a second, a value a step, the last one last.
    pub speeds: VecDeque<u64>,
    /// Over the last steps.
    pub speed: Option<f64>,
    /// Share of their time that the accelerator had no step to make, where there is one.
    pub accelerator_idle: Option<f64>,
    pub left: Option<Duration>,
    /// How far an evaluation is, while there is one.
    pub pass: Option<String>,
    pub lines: VecDeque<String>,
    /// Whether the run was asked to save and leave.
    pub stopping: bool,
}

impl State {
    /// Takes up a line of metrics from before this session.
    pub fn past(&mut self, line: &Value) {
        let Some(step) = step(line) else { return };
        for figure in figures(line) {
            match (figure.group, figure.name) {
                (Some("losses"), name) => self.loss(name, step, figure.value),
                (None, "learning_rate") => self.learning_rate.push(step as f64, figure.value),
                (None, "images_per_second") => self.speed_was(figure.value),
                (None, "epoch") => self.epoch = figure.value,
                _ => {}
            }
        }
        self.judged(line);
    }

    /// Takes up an evaluation.
    pub fn judged(&mut self, line: &Value) {
        let (Some(step), Some(evaluation)) = (step(line), line.get("evaluation")) else { return };
        let figure = |name: &str| evaluation.get(name).and_then(Value::as_f64);
        for (name, accuracy) in accuracies(evaluation) {
            let title = title(name);
            if self.judged_by.is_empty() {
                self.judged_by.clone_from(&title);
            }
            if title == self.judged_by {
                self.accuracy.push(step as f64, accuracy);
                let named = [("untrained", "untrained"), ("raw pixels", "raw_pixels")];
                let of = |(label, key)| Some((label, figure(&format!("{name}_accuracy_{key}"))?));
                self.baselines = named.into_iter().filter_map(of).collect();
                continue;
            }
            match self.others.iter_mut().find(|(other, _)| *other == title) {
                Some((_, last)) => *last = accuracy,
                None => self.others.push((title, accuracy)),
            }
        }
    }

    pub fn step(&mut self, line: &StepLine<'_>) {
        (self.step, self.epoch) = (line.step, line.epoch);
        line.losses.iter().for_each(|(name, value)| self.loss(name, line.step, *value));
        // The pipeline's order; lines of metrics have the alphabet's.
        self.losses.sort_by_key(|(name, _)| line.losses.iter().position(|(known, _)| known == name));
        self.learning_rate.push(line.step as f64, line.learning_rate);
    }

    /// Speed of one step.
    pub fn speed_was(&mut self, images_per_second: f64) {
        self.speeds.push_back(images_per_second.round() as u64);
        if self.speeds.len() > SPEEDS {
            self.speeds.pop_front();
        }
    }

    pub fn say(&mut self, line: &str) {
        self.lines.extend(line.lines().map(str::to_owned));
        while self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    fn loss(&mut self, name: &str, step: u64, value: f64) {
        let index = self.losses.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.losses.push((name.to_owned(), Curve::default()));
            self.losses.len() - 1
        });
        self.losses[index].1.push(step as f64, value);
    }
}

#[cfg(test)]
mod tests {
    use super::{Curve, POINTS};

    #[test]
    fn curves_keep_their_course_and_stay_small() {
        let mut curve = Curve::default();
        let steps = 10 * POINTS;
        (0..steps).for_each(|x| curve.push(x as f64, 2.0 * x as f64));
        curve.push(0.0, f64::NAN);
        assert!((POINTS / 2..=POINTS).contains(&curve.points.len()), "{}", curve.points.len());
        assert!(curve.points.iter().all(|(x, y)| (y - 2.0 * x).abs() < 1e-6 * steps as f64));
        assert!(curve.points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(curve.points[0].0, 7.5, "the mean of 0 to 15");
    }
}
