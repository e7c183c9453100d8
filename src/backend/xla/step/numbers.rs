//! The numbers that a step's update goes by: learning rates, decay, bias corrections, shares of averages. They are worked out on
//! the host in f64, as for the host's own optimizer, and go to the device as one vector.
//!
//! **Invariant:** tensors whose numbers are the same at every step share theirs, so that the vector is short.

use crate::backend::host::optimizer::{Group, adamw, update_of};
use crate::graph::{Layout, Program};
use crate::spec::{Clock, EmaMoment, Optimizer, Schedule};

/// Numbers of one group of tensors, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfGroup {
    LearningRate,
    WeightDecay,
    /// AdamW's lr · wd, …
    Shrink,
    /// … lr / (1 − β₁ᵗ) …
    StepSize,
    /// … and 1 / √(1 − β₂ᵗ).
    SecondScale,
    /// 0 while it is frozen, else 1.
    Moves,
}

const PER_GROUP: usize = 6;

/// A tensor and its averaged copy, by their places in the layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub copy: usize,
    pub source: usize,
    pub when: EmaMoment,
    /// Which of the momenta.
    pub momentum: usize,
}

/// Which numbers there are, and whose.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// Each with the updates that its tensors have had before the first step.
    groups: Vec<(Group, u64)>,
    /// Of each trained tensor its group; `None` where no gradient arrives.
    pub of_tensor: Vec<Option<usize>>,
    momenta: Vec<Schedule>,
    /// In the order in which they move.
    pub pairs: Vec<Pair>,
}

impl Numbers {
    /// `updates`: how many each trained tensor has had.
    pub fn new(program: &Program, updates: &[u64]) -> Self {
        let layout = &program.layout;
        let mut groups: Vec<(Group, u64)> = Vec::new();
        let reached = program.train.reached(layout);
        let of_tensor = reached.iter().zip(updates).enumerate().map(|(index, (reached, updates))| {
            let group = (Group::new(&program.spec.train, &layout.tensors[index], *reached), *updates);
            reached.then(|| place(&mut groups, group))
        });
        let of_tensor = of_tensor.collect();
        let (pairs, momenta) = pairs(program, layout);
        Numbers { groups, of_tensor, momenta, pairs }
    }

    /// How many numbers there are; at least one, for a vector of none is no argument.
    pub fn total(&self) -> usize {
        (self.groups.len() * PER_GROUP + self.momenta.len()).max(1)
    }

    pub fn of_group(&self, group: usize, number: OfGroup) -> usize {
        group * PER_GROUP + number as usize
    }

    /// What a copy takes of its source: the place of the share.
    pub fn share(&self, momentum: usize) -> usize {
        self.groups.len() * PER_GROUP + momentum
    }

    /// The share, if it is the same at every step.
    pub fn fixed_share(&self, momentum: usize) -> Option<f64> {
        match self.momenta[momentum] {
            Schedule::Constant(momentum) => Some(1.0 - momentum),
            _ => None,
        }
    }

    /// Whether a group is frozen at some time.
    pub fn freezes(&self, group: usize) -> bool {
        self.groups[group].0.frozen_until.is_some()
    }

    /// Whether LARS adapts the group's learning rates.
    pub fn adapts(&self, group: usize) -> bool {
        self.groups[group].0.adaptation
    }

    fn moves(&self, group: usize, step: u64, clock: &Clock) -> bool {
        self.groups[group].0.frozen_until.is_none_or(|until| step as f64 >= clock.steps(until))
    }

    /// The numbers of the step after `step` steps, of tensors that have had `updates`.
    pub fn at(&self, program: &Program, step: u64, clock: &Clock, updates: &[u64]) -> Vec<f64> {
        let mut numbers = vec![0.0; self.total()];
        for (index, (group, _)) in self.groups.iter().enumerate() {
            let moves = self.moves(index, step, clock);
            let update = update_of(group, 1.0, step, clock);
            let mut put = |number: OfGroup, value: f64| numbers[self.of_group(index, number)] = value;
            put(OfGroup::LearningRate, update.learning_rate);
            put(OfGroup::WeightDecay, update.weight_decay);
            put(OfGroup::Moves, f64::from(u8::from(moves)));
            let Optimizer::AdamW { betas, eps, .. } = &program.spec.train.optimizer else { continue };
            let had = self.of_tensor.iter().position(|of| *of == Some(index)).map_or(0, |tensor| updates[tensor]);
            // A frozen one divides by its first correction, and is not written.
            let factors = adamw::Factors::new(update, *betas, *eps, had + 1);
            put(OfGroup::Shrink, factors.shrink);
            put(OfGroup::StepSize, factors.step_size);
            put(OfGroup::SecondScale, factors.second_scale);
        }
        for (index, momentum) in self.momenta.iter().enumerate() {
            numbers[self.share(index)] = 1.0 - clock.value(momentum, step);
        }
        numbers
    }

    /// Counts the updates of the step after `step` steps.
    pub fn count(&self, step: u64, clock: &Clock, updates: &mut [u64]) {
        for (updates, group) in updates.iter_mut().zip(&self.of_tensor) {
            *updates += u64::from(group.is_some_and(|group| self.moves(group, step, clock)));
        }
    }
}

/// The averaged copies in their order, and the momenta that they go by.
fn pairs(program: &Program, layout: &Layout) -> (Vec<Pair>, Vec<Schedule>) {
    let (mut found, mut momenta) = (Vec::new(), Vec::new());
    for ema in &program.emas {
        for (copy, source) in &ema.pairs {
            let (Some(copy), Some(source)) = (layout.index(copy), layout.index(source)) else { continue };
            let momentum = place(&mut momenta, ema.momentum.clone());
            found.push(Pair { copy, source, when: ema.when, momentum });
        }
    }
    (found, momenta)
}

/// Where `item` stands in `list`; it is added where it does not.
fn place<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|other| *other == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}
