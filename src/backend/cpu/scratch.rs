//! Floats that each thread works in, kept from one step to the next.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::aligned::Aligned;
use crate::tensor::Element;

pub trait Scratch: Element {
    /// Runs `work` on floats that this thread keeps for the purpose; what they hold is left over from before. The greatest
    /// need a thread has had stays allocated.
    fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
    /// The same of floats of their own, for `work` that lies within another's, as what is done to parts of a product does.
    fn with_runs<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
    /// Gives every thread of rayon's as much of both as any has needed, so that a step that was made once allocates nothing,
    /// whoever takes which part of it.
    fn share_scratch();
}

/// Calls `work` on floats that a thread keeps; `greatest` is the most that any has needed.
fn with<E: Element, R>(
    kept: &RefCell<Aligned<E>>,
    greatest: &AtomicUsize,
    len: usize,
    work: impl FnOnce(&mut [E]) -> R,
) -> R {
    if len > greatest.load(Ordering::Relaxed) {
        greatest.fetch_max(len, Ordering::Relaxed);
    }
    // Taken out, not borrowed: rayon may run another task on this thread while `work` waits for one.
    let mut floats = kept.take();
    if floats.len() < len {
        floats = Aligned::new(E::ZERO, len);
    }
    let result = work(&mut floats[..len]);
    kept.replace(floats);
    result
}

macro_rules! scratch {
    ($element:ident) => {
        const _: () = {
    thread_local!(static SCRATCH: RefCell<Aligned<$element>> = RefCell::default());
    thread_local!(static RUNS: RefCell<Aligned<$element>> = RefCell::default());
            static MOST_SCRATCH: AtomicUsize = AtomicUsize::new(0);
            static MOST_RUNS: AtomicUsize = AtomicUsize::new(0);

            impl Scratch for $element {
                fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                    SCRATCH.with(|kept| with(kept, &MOST_SCRATCH, len, work))
                }

                fn with_runs<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                    RUNS.with(|kept| with(kept, &MOST_RUNS, len, work))
                }

                fn share_scratch() {
                    rayon::broadcast(|_| {
                        Self::with_scratch(MOST_SCRATCH.load(Ordering::Relaxed), |_| ());
                        Self::with_runs(MOST_RUNS.load(Ordering::Relaxed), |_| ());
                    });
                }
            }
        };
    };
}

scratch!(f32);
scratch!(f64);
