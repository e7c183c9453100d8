//! Averaged copies: `copy ← momentum · copy + (1 − momentum) · source`.
//!
//! A copy that moves after the step, whose source is trained and which no other pair names follows within the optimizer's walk;
//! all others are moved here, pair by pair.
//!
//! **Invariant:** an element hangs on its own source alone, so that the result is the same for any number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::CHUNK;
use crate::graph::Layout;
use crate::spec::{Clock, EmaMoment, EmaSpec, Schedule};
use crate::tensor::Element;
use crate::wide::wide;

/// A tensor and its averaged copy, by their places in the arena.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub copy: Range<usize>,
    pub source: Range<usize>,
    pub momentum: Schedule,
    pub when: EmaMoment,
}

/// The averaged copies of a pipeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Averages {
    /// Moved by [`super::optimizer::Optimizer::update`].
    pub followers: Vec<Pair>,
    /// Moved by [`Averages::apply`], in this order.
    others: Vec<Pair>,
}

impl Averages {
    /// `follow`: whether the optimizer's walk has all tensors, so that copies can move with it.
    pub fn new(emas: &[EmaSpec], layout: &Layout, follow: bool) -> Self {
        let places = |ema: &EmaSpec, (copy, source): &(String, String)| {
            let ((_, copy), (_, source)) = (layout.get(copy)?, layout.get(source)?);
            Some(Pair { copy, source, momentum: ema.momentum.clone(), when: ema.when })
        };
        let pairs: Vec<Pair> =
            emas.iter().flat_map(|ema| ema.pairs.iter().filter_map(|pair| places(ema, pair))).collect();
        // Where a copy is also another pair's, the order of pairs counts.
        let named = |copy: &Range<usize>| pairs.iter().filter(|p| p.copy == *copy || p.source == *copy).count();
        let follows = |pair: &Pair| {
            follow
                && pair.when == EmaMoment::AfterStep
                && pair.source.end <= layout.trained_len
                && named(&pair.copy) == 1
        };
        let (followers, others) = pairs.iter().cloned().partition(follows);
        Averages { followers, others }
    }

    /// Moves the copies whose moment is `when`, but for followers, with the momentum in force at step `step`. `before` gets
    /// what the copies were, for [`Averages::take_back`].
    pub fn apply<E: Element>(
        &self,
        when: EmaMoment,
        arena: &mut [E],
        step: u64,
        clock: &Clock,
        mut before: Option<&mut Vec<E>>,
    ) {
        let mut at = 0;
        for Pair { copy, source, momentum, .. } in self.at(when) {
            let share = 1.0 - clock.value(momentum, step);
            let len = copy.len();
            if let Some(before) = &mut before {
                before.resize(before.len().max(at + len), E::ZERO);
                let kept = before[at..at + len].par_chunks_mut(CHUNK);
                kept.zip(arena[copy.clone()].par_chunks(CHUNK)).for_each(|(kept, copy)| kept.copy_from_slice(copy));
                at += len;
            }
            // Trained tensors lie before copies, averaged states behind them.
            let (copy, source) = if source.start < copy.start {
                let (low, high) = arena.split_at_mut(copy.start);
                (&mut high[..len], &low[source.clone()])
            } else {
                let (low, high) = arena.split_at_mut(source.start);
                (&mut low[copy.clone()], &high[..source.len()])
            };
            let pieces = copy.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK));
            pieces.for_each(|(copy, source)| average(copy, source, share));
        }
    }

    /// Puts back what [`Averages::apply`] has left in `before`.
    pub fn take_back<E: Element>(&self, when: EmaMoment, arena: &mut [E], before: &[E]) {
        let mut end = self.at(when).map(|pair| pair.copy.len()).sum::<usize>();
        // The last first: a copy may have been moved twice.
        for pair in self.at(when).rev() {
            let start = end - pair.copy.len();
            arena[pair.copy.clone()].copy_from_slice(&before[start..end]);
            end = start;
        }
    }

    fn at(&self, when: EmaMoment) -> impl DoubleEndedIterator<Item = &Pair> {
        self.others.iter().filter(move |pair| pair.when == when)
    }
}

wide! {
    /// Moves `copy` by `share` of the way to `source`. The lesser share is that of the difference: near a momentum of 1 the weight
    /// of what is added has all its digits where `momentum` itself, rounded to f32, would have lost some, and a momentum of
    /// 0 copies to the bit.
    pub(super) fn average<E: Element>(copy: &mut [E], source: &[E], share: f64) {
        if share <= 0.5 {
            let share = E::from_f64(share);
            copy.iter_mut().zip(source).for_each(|(copy, source)| *copy += share * (*source - *copy));
        } else {
            let rest = E::from_f64(1.0 - share);
            copy.iter_mut().zip(source).for_each(|(copy, source)| *copy = *source + rest * (*copy - *source));
        }
    }
}
