//! The update of a step in a function: clipping, the optimizer, averaged copies. The formulas are those of the host's
//! (`backend::host`), whose numbers they take.
//!
//! **Invariant:** each copy moves at its moment, in the order of the program's averages.

use super::super::lower::build::Order;
use super::super::lower::{Function, Scalar, TensorType, Value};
use super::numbers::{Numbers, OfGroup};
use crate::spec::{Clip, EmaMoment, Optimizer, TrainSpec};

/// A program's tensors in a function, as they are after what was written so far.
pub struct State {
    /// In the order of the layout.
    pub tensors: Vec<Value>,
    /// Of each slot of the optimizer one for each trained tensor.
    pub slots: Vec<Vec<Value>>,
}

/// Writes updates with the numbers of the step.
pub struct Update<'u> {
    pub train: &'u TrainSpec,
    pub numbers: &'u Numbers,
    /// The vector of numbers.
    pub vector: Value,
    /// In how many parts slots lie, each a rank's, which updates its part of each parameter.
    pub shards: usize,
}

impl Update<'_> {
    fn number(&self, f: &mut Function, at: usize) -> Value {
        let one = f.slice(&self.vector, &[at], &[at + 1]);
        f.reshape(&one, &[])
    }

    fn of_group(&self, f: &mut Function, group: usize, number: OfGroup) -> Value {
        self.number(f, self.numbers.of_group(group, number))
    }

    /// Moves the copies whose moment is `when`.
    pub fn average(&self, f: &mut Function, state: &mut State, when: EmaMoment) {
        for pair in self.numbers.pairs.iter().filter(|pair| pair.when == when) {
            let share = self.number(f, self.numbers.share(pair.momentum));
            let (copy, source) = (&state.tensors[pair.copy], &state.tensors[pair.source]);
            state.tensors[pair.copy] = match self.numbers.fixed_share(pair.momentum) {
                Some(fixed) if fixed <= 0.5 => towards(f, copy, source, &share),
                Some(_) => back(f, copy, source, &share),
                None => {
                    let (near, far) = (towards(f, copy, source, &share), back(f, copy, source, &share));
                    let is_small = f.compare_to(&share, Order::Le, 0.5);
                    let is_small = f.broadcast(&is_small, near.shape(), &[]);
                    f.select(&is_small, &near, &far)
                }
            };
        }
    }

    /// Updates the trained tensors that have a gradient; gives the norm of all gradients before clipping, if they are clipped.
    /// `gradient` gives that of a trained tensor by its place in the layout.
    pub fn optimize(
        &self,
        f: &mut Function,
        state: &mut State,
        gradient: &dyn Fn(usize) -> Option<Value>,
    ) -> Option<Value> {
        let moving: Vec<(usize, usize, Value)> = (0..self.numbers.of_tensor.len())
            .filter_map(|tensor| Some((tensor, self.numbers.of_tensor[tensor]?, gradient(tensor)?)))
            .collect();
        let (scales, norm) = self.clipping(f, &moving);
        for (at, (tensor, group, gradient)) in moving.iter().enumerate() {
            let (tensor, group) = (*tensor, *group);
            let gradient = match scales.get(at) {
                Some(scale) => scaled(f, gradient, scale),
                None => gradient.clone(),
            };
            let old: Vec<Value> = state.slots.iter().map(|slot| slot[tensor].clone()).collect();
            let parameter = state.tensors[tensor].clone();
            // What hangs on a tensor as a whole.
            let gradient = match &self.train.optimizer {
                Optimizer::Lars { .. } => self.adapted(f, group, &parameter, &gradient),
                _ => gradient,
            };
            let [own, gradient] = [&parameter, &gradient].map(|x| f.part_of_rank(x, self.shards));
            let (next, slots) = match &self.train.optimizer {
                Optimizer::AdamW { betas, eps, .. } => self.adamw(f, group, &own, &gradient, &old, *betas, *eps),
                Optimizer::Sgd { momentum, nesterov, .. } => {
                    let [rate, decay] =
                        [OfGroup::LearningRate, OfGroup::WeightDecay].map(|n| self.of_group(f, group, n));
                    let decayed = decayed(f, &own, &gradient, &decay);
                    sgd(f, &own, &decayed, &old[0], &rate, (*momentum, *nesterov))
                }
                Optimizer::Lars { momentum, .. } => {
                    let rate = self.of_group(f, group, OfGroup::LearningRate);
                    sgd(f, &own, &gradient, &old[0], &rate, (*momentum, false))
                }
            };
            let moves = self.numbers.freezes(group).then(|| {
                let moves = self.of_group(f, group, OfGroup::Moves);
                f.compare_to(&moves, Order::Ne, 0.0)
            });
            let next = where_true(f, moves.as_ref(), next, &own);
            state.tensors[tensor] = f.from_parts(&next, parameter.shape(), self.shards);
            for ((slot, next), old) in state.slots.iter_mut().zip(slots).zip(&old) {
                slot[tensor] = where_true(f, moves.as_ref(), next, old);
            }
        }
        norm
    }

    /// What the gradient of each moving tensor is multiplied by, and the norm of all; nothing where `train` does not clip.
    fn clipping(&self, f: &mut Function, moving: &[(usize, usize, Value)]) -> (Vec<Value>, Option<Value>) {
        let Some(clip) = self.train.clip else { return (Vec::new(), None) };
        let squares: Vec<Value> = moving.iter().map(|(_, _, gradient)| square(f, gradient)).collect();
        let mut all = f.constant(0.0, &TensorType::new([], self.vector.scalar()));
        squares.iter().for_each(|square| all = f.add(&all, square));
        let global = f.unary("sqrt", &all);
        let scales = match clip {
            Clip::GlobalNorm(most) => {
                let scale = factor(f, most, &global);
                vec![scale; moving.len()]
            }
            Clip::EachNorm(most) => squares
                .iter()
                .map(|square| {
                    let norm = f.unary("sqrt", square);
                    factor(f, most, &norm)
                })
                .collect(),
        };
        (scales, Some(global))
    }

    #[allow(clippy::too_many_arguments, reason = "what the formula takes")]
    fn adamw(
        &self,
        f: &mut Function,
        group: usize,
        parameter: &Value,
        gradient: &Value,
        slots: &[Value],
        betas: (f64, f64),
        eps: f64,
    ) -> (Value, Vec<Value>) {
        let [shrink, step_size, second_scale] =
            [OfGroup::Shrink, OfGroup::StepSize, OfGroup::SecondScale].map(|number| self.of_group(f, group, number));
        let moved = |f: &mut Function, slot: &Value, to: &Value, share: f64| {
            let way = f.sub(to, slot);
            let part = f.times(&way, share);
            f.add(slot, &part)
        };
        let first = moved(f, &slots[0], gradient, 1.0 - betas.0);
        let squared = f.mul(gradient, gradient);
        let second = moved(f, &slots[1], &squared, 1.0 - betas.1);
        let root = f.unary("sqrt", &second);
        let root = scaled(f, &root, &second_scale);
        let root = f.plus(&root, eps);
        let step = scaled(f, &first, &step_size);
        let step = f.div(&step, &root);
        let decay = scaled(f, parameter, &shrink);
        let all = f.add(&decay, &step);
        (f.sub(parameter, &all), vec![first, second])
    }

    /// LARS's gradient, decay included: see the host's `lars`.
    fn adapted(&self, f: &mut Function, group: usize, parameter: &Value, gradient: &Value) -> Value {
        let decay = self.of_group(f, group, OfGroup::WeightDecay);
        let whole = decayed(f, parameter, gradient, &decay);
        let Optimizer::Lars { trust_coefficient, eps, separate_norms, .. } = &self.train.optimizer else {
            return whole;
        };
        if !self.numbers.adapts(group) {
            return whole;
        }
        let norm = |f: &mut Function, x: &Value| {
            let square = square(f, x);
            f.unary("sqrt", &square)
        };
        let of_parameter = norm(f, parameter);
        let of_gradient = match separate_norms {
            true => {
                let (own, of_decay) = (norm(f, gradient), f.mul(&decay, &of_parameter));
                f.add(&own, &of_decay)
            }
            false => norm(f, &whole),
        };
        let above = f.times(&of_parameter, *trust_coefficient);
        let below = f.plus(&of_gradient, *eps);
        let trust = f.div(&above, &below);
        // A tensor of zeros, such as a bias at the start, would never leave zero.
        let has = [&of_parameter, &of_gradient].map(|norm| f.compare_to(norm, Order::Gt, 0.0));
        let both = f.binary("and", &has[0], &has[1]);
        let one = f.constant(1.0, &trust.ty);
        let trust = f.select(&both, &trust, &one);
        scaled(f, &whole, &trust)
    }
}

/// copy + share · (source − copy).
fn towards(f: &mut Function, copy: &Value, source: &Value, share: &Value) -> Value {
    let way = f.sub(source, copy);
    let part = scaled(f, &way, share);
    f.add(copy, &part)
}

/// source + (1 − share) · (copy − source): to the bit the source where the share is 1.
fn back(f: &mut Function, copy: &Value, source: &Value, share: &Value) -> Value {
    let one = f.constant(1.0, &share.ty);
    let (rest, way) = (f.sub(&one, share), f.sub(copy, source));
    let part = scaled(f, &way, &rest);
    f.add(source, &part)
}

/// SGD's step on a gradient with decay; gives parameter and buffer.
fn sgd(
    f: &mut Function,
    parameter: &Value,
    gradient: &Value,
    buffer: &Value,
    rate: &Value,
    (momentum, nesterov): (f64, bool),
) -> (Value, Vec<Value>) {
    let kept = f.times(buffer, momentum);
    let buffer = f.add(&kept, gradient);
    let direction = match nesterov {
        true => {
            let ahead = f.times(&buffer, momentum);
            f.add(gradient, &ahead)
        }
        false => buffer.clone(),
    };
    let step = scaled(f, &direction, rate);
    (f.sub(parameter, &step), vec![buffer])
}

/// gradient + decay · parameter.
fn decayed(f: &mut Function, parameter: &Value, gradient: &Value, decay: &Value) -> Value {
    let part = scaled(f, parameter, decay);
    f.add(gradient, &part)
}

/// x · a scalar.
fn scaled(f: &mut Function, x: &Value, scalar: &Value) -> Value {
    let all = f.broadcast(scalar, x.shape(), &[]);
    f.mul(x, &all)
}

/// Σ x².
fn square(f: &mut Function, x: &Value) -> Value {
    let squares = f.mul(x, x);
    f.sum(&squares, &(0..x.rank()).collect::<Vec<_>>())
}

/// min(1, most / (norm + 1e-6)), as PyTorch's `clip_grad_norm_`.
fn factor(f: &mut Function, most: f64, norm: &Value) -> Value {
    let (most, below) = (f.constant(most, &norm.ty), f.plus(norm, 1e-6));
    let factor = f.div(&most, &below);
    let one = f.constant(1.0, &norm.ty);
    f.binary("minimum", &factor, &one)
}

/// `new` where `truth` holds, else `old`; without a truth always `new`.
pub fn where_true(f: &mut Function, truth: Option<&Value>, new: Value, old: &Value) -> Value {
    debug_assert!(new.scalar() != Scalar::I1, "tensors are numbers");
    match truth {
        Some(truth) if new != *old => {
            let all = f.broadcast(truth, new.shape(), &[]);
            f.select(&all, &new, old)
        }
        _ => new,
    }
}
