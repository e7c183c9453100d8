//! Averaged copies: `copy ← momentum · copy + (1 − momentum) · source`.
//!
//! **Invariant:** an element hangs on its own source alone, so that the result is the same for any number of threads.

use rayon::prelude::*;

use super::{CHUNK, Clock};
use crate::backend::Element;
use crate::graph::Layout;
use crate::spec::{EmaMoment, EmaSpec};

/// Moves the copies of `emas` whose moment is `when`, with the momentum in force at step `step`.
pub fn apply<E: Element>(
    emas: &[EmaSpec],
    when: EmaMoment,
    layout: &Layout,
    arena: &mut [E],
    step: u64,
    clock: &Clock,
) {
    for ema in emas.iter().filter(|ema| ema.when == when) {
        let momentum = clock.value(&ema.momentum, step);
        for (copy, source) in &ema.pairs {
            let (Some((_, copy)), Some((_, source))) = (layout.get(copy), layout.get(source)) else { continue };
            // Trained tensors lie before copies, averaged states behind them.
            let (copy, source) = if source.start < copy.start {
                let (low, high) = arena.split_at_mut(copy.start);
                (&mut high[..copy.len()], &low[source])
            } else {
                let (low, high) = arena.split_at_mut(source.start);
                (&mut low[copy], &high[..source.len()])
            };
            average(copy, source, momentum);
        }
    }
}

fn average<E: Element>(copy: &mut [E], source: &[E], momentum: f64) {
    copy.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK)).for_each(|(copy, source)| {
        for (c, s) in copy.iter_mut().zip(source) {
            *c = E::from_f64(momentum * c.to_f64() + (1.0 - momentum) * s.to_f64());
        }
    });
}
