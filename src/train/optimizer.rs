//! The optimizer: one pass over the flat arenas of parameters, gradients and moments.
//!
//! **Invariant:** an element hangs on its own gradient and moments alone, so that the result is the same for any
//! number of threads.

use rayon::prelude::*;

use super::{CHUNK, Clock};
use crate::backend::Element;
use crate::graph::Layout;
use crate::spec::{Duration, Optimizer as OptimizerSpec, ParameterRule};

/// How one parameter is updated: the rules of `train.parameters`, looked up once.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub weight_decay: f64,
    pub learning_rate_factor: f64,
    pub frozen_until: Option<Duration>,
    /// False where no gradient can arrive: such a parameter stays as it is, as in PyTorch.
    pub reached: bool,
}

/// AdamW (Loshchilov & Hutter 2019): `p ← p·(1 − lr·wd)`, then Adam's step with bias correction.
#[derive(Debug, Clone)]
pub struct AdamW<E> {
    betas: (f64, f64),
    eps: f64,
    /// One for each trained tensor.
    pub groups: Vec<Group>,
    /// Both moments, `layout.trained_len` values each.
    pub first: Vec<E>,
    pub second: Vec<E>,
    /// Updates that each trained tensor has had: what bias correction counts.
    pub updates: Vec<u64>,
}

impl<E: Element> AdamW<E> {
    /// `reached[i]`: whether a gradient can arrive at trained tensor `i`.
    pub fn new(spec: &OptimizerSpec, rules: &[ParameterRule], layout: &Layout, reached: &[bool]) -> Self {
        let OptimizerSpec::AdamW { betas, eps, weight_decay } = spec;
        let groups: Vec<Group> =
            reached.iter().enumerate().map(|(i, reached)| group(rules, layout, i, *weight_decay, *reached)).collect();
        let zeros = vec![E::from_f64(0.0); layout.trained_len];
        AdamW { betas: *betas, eps: *eps, updates: vec![0; groups.len()], groups, first: zeros.clone(), second: zeros }
    }

    /// Updates the trained part of `arena` from `gradients` (both with the layout's offsets).
    pub fn update(
        &mut self,
        layout: &Layout,
        arena: &mut [E],
        gradients: &[E],
        learning_rate: f64,
        step: u64,
        clock: &Clock,
    ) {
        for (index, group) in self.groups.iter().enumerate() {
            let frozen = group.frozen_until.is_some_and(|until| (step as f64) < clock.steps(until));
            if frozen || !group.reached {
                continue;
            }
            self.updates[index] += 1;
            let rate = learning_rate * group.learning_rate_factor;
            let kernel = Kernel::new(self.betas, self.eps, rate, group.weight_decay, self.updates[index]);
            let range = layout.range(index);
            let parameters = arena[range.clone()].par_chunks_mut(CHUNK);
            let moments =
                self.first[range.clone()].par_chunks_mut(CHUNK).zip(self.second[range.clone()].par_chunks_mut(CHUNK));
            parameters
                .zip(gradients[range].par_chunks(CHUNK))
                .zip(moments)
                .for_each(|((p, g), (m, v))| kernel.apply(p, g, m, v));
        }
    }
}

/// For each setting the first rule that matches the parameter and gives that setting counts.
fn group(rules: &[ParameterRule], layout: &Layout, index: usize, weight_decay: f64, reached: bool) -> Group {
    let decl = &layout.tensors[index];
    let matching = || rules.iter().filter(|rule| rule.selector.matches(&decl.path, decl.role));
    Group {
        weight_decay: matching().find_map(|rule| rule.weight_decay).unwrap_or(weight_decay),
        learning_rate_factor: matching().find_map(|rule| rule.learning_rate_factor).unwrap_or(1.0),
        frozen_until: matching().find_map(|rule| rule.frozen_until),
        reached,
    }
}

/// Numbers of one tensor's update, worked out once.
struct Kernel {
    betas: (f64, f64),
    eps: f64,
    kept: f64,
    step_size: f64,
    /// 1 / √(1 − β₂ᵗ).
    second_scale: f64,
}

impl Kernel {
    fn new(betas: (f64, f64), eps: f64, rate: f64, weight_decay: f64, updates: u64) -> Self {
        // More than 2³¹ updates change no correction: both powers are 0 long before.
        let power = |beta: f64| beta.powi(i32::try_from(updates).unwrap_or(i32::MAX));
        Kernel {
            betas,
            eps,
            kept: 1.0 - rate * weight_decay,
            step_size: rate / (1.0 - power(betas.0)),
            second_scale: 1.0 / (1.0 - power(betas.1)).sqrt(),
        }
    }

    fn apply<E: Element>(&self, parameters: &mut [E], gradients: &[E], first: &mut [E], second: &mut [E]) {
        let values = parameters.iter_mut().zip(gradients).zip(first.iter_mut().zip(second));
        for ((p, g), (m, v)) in values {
            let gradient = g.to_f64();
            let mean = self.betas.0 * m.to_f64() + (1.0 - self.betas.0) * gradient;
            let square = self.betas.1 * v.to_f64() + (1.0 - self.betas.1) * gradient * gradient;
            let denominator = square.sqrt() * self.second_scale + self.eps;
            *m = E::from_f64(mean);
            *v = E::from_f64(square);
            *p = E::from_f64(p.to_f64() * self.kept - self.step_size * mean / denominator);
        }
    }
}
