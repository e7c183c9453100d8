//! The optimizer: passes over the flat arenas of parameters, gradients and what is kept from step to step.
//!
//! Before: the gradients of one step. After: parameters and slots are those of the next. [`rules`] says how each
//! parameter is updated, [`clip`] bounds gradients, and [`adamw`], [`sgd`] and [`lars`] hold a formula each.
//!
//! **Invariant:** an element hangs on its own values and on norms, which are summed in pieces whose size is fixed: the
//! result is the same for any number of threads.

mod adamw;
mod clip;
mod lars;
mod rules;
mod sgd;

use std::ops::Range;

use self::lars::Trust;
use super::Clock;
use crate::backend::Element;
use crate::graph::Layout;
use crate::spec::{Optimizer as OptimizerSpec, TrainSpec};

pub use rules::Group;

/// An optimizer with all that it remembers.
#[derive(Debug, Clone)]
pub struct Optimizer<E> {
    spec: OptimizerSpec,
    clip: Option<crate::spec::Clip>,
    /// One for each trained tensor.
    pub groups: Vec<Group>,
    /// What is kept of each trained value, in the order of [`OptimizerSpec::slots`]: `layout.trained_len` values each,
    /// with the layout's offsets.
    pub slots: Vec<Vec<E>>,
    /// Updates that each trained tensor has had: what AdamW's bias correction counts.
    pub updates: Vec<u64>,
}

/// What a formula is given of one tensor.
struct Update<'a, E> {
    parameters: &'a mut [E],
    gradients: &'a [E],
    /// Of clipping; 1 where nothing is clipped.
    scale: f64,
    learning_rate: f64,
    weight_decay: f64,
}

impl<E: Element> Optimizer<E> {
    /// `reached[i]`: whether a gradient can arrive at trained tensor `i`.
    pub fn new(train: &TrainSpec, layout: &Layout, reached: &[bool]) -> Self {
        let groups: Vec<Group> =
            reached.iter().enumerate().map(|(i, reached)| Group::new(train, &layout.tensors[i], *reached)).collect();
        Optimizer {
            spec: train.optimizer.clone(),
            clip: train.clip,
            updates: vec![0; groups.len()],
            groups,
            slots: vec![vec![E::from_f64(0.0); layout.trained_len]; train.optimizer.slots().len()],
        }
    }

    /// Updates the trained part of `arena` from `gradients` (both with the layout's offsets) for the step after `step`
    /// steps. Gives the norm of all gradients before clipping, if gradients are clipped.
    pub fn update(
        &mut self,
        layout: &Layout,
        arena: &mut [E],
        gradients: &[E],
        step: u64,
        clock: &Clock,
    ) -> Option<f64> {
        let reached: Vec<Option<Range<usize>>> =
            self.groups.iter().enumerate().map(|(i, group)| group.reached.then(|| layout.range(i))).collect();
        let clipped = self.clip.map(|clip| clip::factors(clip, gradients, &reached));
        for (index, range) in reached.into_iter().enumerate() {
            let group = &self.groups[index];
            let frozen = group.frozen_until.is_some_and(|until| (step as f64) < clock.steps(until));
            let (Some(range), false) = (range, frozen) else { continue };
            self.updates[index] += 1;
            let update = Update {
                parameters: &mut arena[range.clone()],
                gradients: &gradients[range.clone()],
                scale: clipped.as_ref().map_or(1.0, |clipped| clipped.factors[index]),
                learning_rate: clock.value(&group.learning_rate, step) * group.learning_rate_factor,
                weight_decay: clock.value(&group.weight_decay, step),
            };
            let mut slots = self.slots.iter_mut().map(|slot| &mut slot[range.clone()]);
            let mut slot = || slots.next().expect("`new` makes the slots of its optimizer");
            match &self.spec {
                OptimizerSpec::AdamW { betas, eps, .. } => {
                    adamw::apply(update, (slot(), slot()), *betas, *eps, self.updates[index]);
                }
                OptimizerSpec::Sgd { momentum, nesterov, .. } => sgd::apply(update, slot(), *momentum, *nesterov),
                OptimizerSpec::Lars { momentum, trust_coefficient, eps, separate_norms, .. } => {
                    let trust = Trust { coefficient: *trust_coefficient, eps: *eps, separate_norms: *separate_norms };
                    let trust = group.adaptation.then_some(trust);
                    lars::apply(update, slot(), *momentum, trust);
                }
            }
        }
        clipped.map(|clipped| clipped.norm)
    }
}
