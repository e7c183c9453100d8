//! The optimizer: one walk over the flat arenas of parameters, gradients, what is kept from step to step, and the averaged
//! copies that follow the parameters.
//!
//! Before: the gradients of one step. After: parameters, slots and followers are those of the next. [`rules`] says how each
//! parameter is updated, [`clip`] bounds gradients, and [`adamw`], [`sgd`] and [`lars`] hold a formula each.
//!
//! Elements are computed in their own precision, numbers of a whole tensor in f64: a walk is bound by memory, and f32 rounds
//! what it stores anyway.
//!
//! **Invariant:** an element hangs on its own values and on norms, which are summed in pieces whose size is fixed: the
//! result is the same for any number of threads.

pub(in crate::backend) mod adamw;
mod clip;
mod lars;
mod norms;
mod rules;
mod sgd;

use std::ops::Range;

use self::lars::Trust;
use super::ema::{self, Pair};
use super::walk::{Walk, values_of};
use crate::graph::Layout;
use crate::spec::{Clock, Optimizer as OptimizerSpec, TrainSpec};
use crate::tensor::Element;

pub use rules::Group;

/// An optimizer with all that it remembers.
#[derive(Debug, Clone)]
pub struct Optimizer<E> {
    spec: OptimizerSpec,
    clip: Option<crate::spec::Clip>,
    /// One for each trained tensor.
    pub groups: Vec<Group>,
    /// What is kept of each value that is updated here, in the order of [`OptimizerSpec::slots`], in the order of the layout.
    pub slots: Vec<Vec<E>>,
    /// Updates that each trained tensor has had: what AdamW's bias correction counts.
    pub updates: Vec<u64>,
    walk: Walk,
    followers: Vec<Pair>,
    memory: Memory,
}

/// What a step works out beside the arenas, kept so that the next need not allocate.
#[derive(Debug, Clone, Default)]
struct Memory {
    /// For each trained tensor; `None` where it stays as it is.
    updates: Vec<Option<Update>>,
    formulas: Vec<Option<Formula>>,
    /// Of clipping, for each trained tensor.
    scales: Vec<f64>,
    parameter_norms: Vec<f64>,
    gradient_norms: Vec<f64>,
    of_pieces: Vec<f64>,
    /// For each follower, what it takes of its source.
    shares: Vec<f64>,
}

/// The numbers in force for one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::backend) struct Update {
    /// Of clipping; 1 where nothing is clipped.
    scale: f64,
    pub learning_rate: f64,
    pub weight_decay: f64,
}

/// Those of a group's tensors in the step after `step` steps.
pub(in crate::backend) fn update_of(group: &Group, scale: f64, step: u64, clock: &Clock) -> Update {
    Update {
        scale,
        learning_rate: clock.value(&group.learning_rate, step) * group.learning_rate_factor,
        weight_decay: clock.value(&group.weight_decay, step),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Formula {
    AdamW(adamw::Factors),
    Sgd(sgd::Factors),
}

impl<E: Element> Optimizer<E> {
    /// `reached[i]`: whether a gradient can arrive at trained tensor `i`; `followers`: the averaged copies that move with
    /// their sources; `own`: the trained tensors that are updated here.
    pub fn new(train: &TrainSpec, layout: &Layout, reached: &[bool], followers: Vec<Pair>, own: Range<usize>) -> Self {
        let groups: Vec<Group> =
            reached.iter().enumerate().map(|(i, reached)| Group::new(train, &layout.tensors[i], *reached)).collect();
        Optimizer {
            spec: train.optimizer.clone(),
            clip: train.clip,
            updates: vec![0; groups.len()],
            groups,
            slots: vec![vec![E::ZERO; values_of(layout, own.clone()).len()]; train.optimizer.slots().len()],
            walk: Walk::new(layout, &followers, own),
            followers,
            memory: Memory::default(),
        }
    }

    /// Updates the trained part of `arena` from `gradients` (both with the layout's offsets) for the step after `step`
    /// steps, and moves the followers. Gives the norm of all gradients before clipping, if gradients are clipped.
    pub fn update(&mut self, arena: &mut [E], gradients: &[E], step: u64, clock: &Clock) -> Option<f64> {
        let norm = self.prepare(arena, gradients, step, clock);
        let Memory { formulas, shares, .. } = &self.memory;
        self.walk.for_each(arena, gradients, &mut self.slots, |mut part| {
            let [first, second] = &mut part.slots;
            match &formulas[part.tensor] {
                Some(Formula::AdamW(factors)) => {
                    adamw::apply(factors, part.parameters, part.gradients, first, second);
                }
                Some(Formula::Sgd(factors)) => sgd::apply(factors, part.parameters, part.gradients, first),
                None => {}
            }
            part.each_follower(|pair, copy, source| ema::average(copy, source, shares[pair]));
        });
        norm
    }

    /// Works out the numbers of each tensor and counts its update.
    fn prepare(&mut self, arena: &[E], gradients: &[E], step: u64, clock: &Clock) -> Option<f64> {
        let Optimizer { groups, walk, memory, .. } = self;
        memory.shares.clear();
        memory.shares.extend(self.followers.iter().map(|pair| 1.0 - clock.value(&pair.momentum, step)));
        let norm = self.clip.map(|clip| {
            let square = |tensor: usize, _: &[E], g: &[E]| {
                if groups[tensor].reached { norms::square(g) } else { 0.0 }
            };
            walk.sums(arena, gradients, square, &mut memory.of_pieces, &mut memory.scales);
            memory.scales.iter_mut().for_each(|square| *square = square.sqrt());
            clip::factors(clip, &mut memory.scales)
        });
        memory.updates.clear();
        memory.updates.extend(groups.iter().enumerate().map(|(i, group)| {
            let frozen = group.frozen_until.is_some_and(|until| (step as f64) < clock.steps(until));
            let scale = if norm.is_some() { memory.scales[i] } else { 1.0 };
            (group.reached && !frozen).then(|| update_of(group, scale, step, clock))
        }));
        let moved = memory.updates.iter().map(Option::is_some);
        self.updates.iter_mut().zip(moved).for_each(|(count, moved)| *count += u64::from(moved));
        self.write_formulas(arena, gradients);
        norm
    }

    fn write_formulas(&mut self, arena: &[E], gradients: &[E]) {
        let Optimizer { spec, groups, updates: counts, walk, memory, .. } = self;
        let (spec, groups, counts) = (&*spec, &*groups, &*counts);
        let Memory { updates, formulas, parameter_norms, gradient_norms, of_pieces, .. } = memory;
        if let OptimizerSpec::Lars { separate_norms, .. } = spec {
            let adapted = |tensor: usize| updates[tensor].filter(|_| groups[tensor].adaptation);
            let of_parameter = |tensor, p: &[E], _: &[E]| adapted(tensor).map_or(0.0, |_| norms::square(p));
            let of_gradient = |tensor, p: &[E], g: &[E]| match adapted(tensor) {
                None => 0.0,
                Some(_) if *separate_norms => norms::square(g),
                Some(update) => norms::square_of_sum(update.scale, g, update.weight_decay, p),
            };
            walk.sums(arena, gradients, of_parameter, of_pieces, parameter_norms);
            walk.sums(arena, gradients, of_gradient, of_pieces, gradient_norms);
            parameter_norms.iter_mut().chain(&mut *gradient_norms).for_each(|square| *square = square.sqrt());
        }
        let formula = |i: usize, update: Update| match spec {
            OptimizerSpec::AdamW { betas, eps, .. } => {
                Formula::AdamW(adamw::Factors::new(update, *betas, *eps, counts[i]))
            }
            OptimizerSpec::Sgd { momentum, nesterov, .. } => {
                Formula::Sgd(sgd::Factors { update, momentum: *momentum, nesterov: *nesterov })
            }
            OptimizerSpec::Lars { momentum, trust_coefficient, eps, separate_norms, .. } => {
                let trust = Trust { coefficient: *trust_coefficient, eps: *eps, separate_norms: *separate_norms };
                let update = if groups[i].adaptation {
                    trust.adapt(update, parameter_norms[i], gradient_norms[i])
                } else {
                    update
                };
                Formula::Sgd(sgd::Factors { update, momentum: *momentum, nesterov: false })
            }
        };
        formulas.clear();
        formulas.extend(updates.iter().enumerate().map(|(i, update)| update.map(|update| formula(i, update))));
    }
}
