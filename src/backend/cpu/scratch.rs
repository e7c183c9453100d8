//! Floats that each thread works in, kept from one step to the next.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::tensor::Element;

pub trait Scratch: Element {
    /// Runs `work` on floats that this thread keeps for the purpose; what they hold is left over from before. The greatest
    /// need a thread has had stays allocated.
    fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
    /// Gives every thread of rayon's as much scratch as any has needed, so that a step that was made once allocates nothing,
    /// whoever takes which part of it.
    fn share_scratch();
}

/// The greatest scratch that any thread has needed.
static GREATEST_F32: AtomicUsize = AtomicUsize::new(0);
static GREATEST_F64: AtomicUsize = AtomicUsize::new(0);

macro_rules! scratch {
    ($element:ident, $greatest:ident) => {
        impl Scratch for $element {
            fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local!(static SCRATCH: RefCell<Vec<$element>> = const { RefCell::new(Vec::new()) });
                if len > $greatest.load(Ordering::Relaxed) {
                    $greatest.fetch_max(len, Ordering::Relaxed);
                }
                // Taken out, not borrowed: rayon may run another task on this thread while `work` waits for one.
                let mut floats = SCRATCH.take();
                if floats.len() < len {
                    floats.resize(len, 0.0);
                }
                let result = work(&mut floats[..len]);
                SCRATCH.set(floats);
                result
            }
            fn share_scratch() {
                rayon::broadcast(|_| Self::with_scratch($greatest.load(Ordering::Relaxed), |_| ()));
            }
        }
    };
}

scratch!(f32, GREATEST_F32);
scratch!(f64, GREATEST_F64);
