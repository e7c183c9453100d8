//! The pool's threads, kept awake while a step runs.
//!
//! A step has hundreds of parallel loops, some of them a few microseconds long, with work of one thread between them. A thread of rayon's
//! that finds nothing to do goes to sleep after some microseconds, and to wake it takes longer than such a loop (measured on a virtual
//! machine of two cores: 1 to 5 % of a step). So each other thread is given a watch, which looks for work until the step is over.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::Yield;

/// How long a watch finds nothing before it ends: longer than what a step does by one thread. Ranks that wait for one another may take
/// longer, and so may a job that waits beneath a watch which its thread took up in the meantime: it goes on then.
const PATIENCE: Duration = Duration::from_millis(10);

thread_local! {
    /// Whether this thread runs a step, or watches one.
    static IS_AT_A_STEP: Cell<bool> = const { Cell::new(false) };
}

/// A thread's being at a step, as long as it lives.
struct At {
    before: bool,
}

impl At {
    fn a_step() -> Self {
        At { before: IS_AT_A_STEP.replace(true) }
    }
}

impl Drop for At {
    fn drop(&mut self) {
        IS_AT_A_STEP.set(self.before);
    }
}

/// Runs `step` among rayon's threads, the others of which look for its work all the while. Allocates nothing.
///
/// Of several others fewer may: a thread that waits takes up what it finds, a watch too, and one that is at the step already drops it.
pub(super) fn awake<R: Send>(step: impl FnOnce() -> R + Send) -> R {
    let is_over = AtomicBool::new(false);
    rayon::scope(|_| {
        let _at = At::a_step();
        watched(rayon::current_num_threads() - 1, &is_over, step)
    })
}

/// `step` beside so many watches.
fn watched<R: Send>(watches: usize, is_over: &AtomicBool, step: impl FnOnce() -> R + Send) -> R {
    if watches == 0 {
        // A step that panics is over too.
        let _over = Over(is_over);
        return step();
    }
    rayon::join(|| watched(watches - 1, is_over, step), || watch(is_over)).0
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs what there is to do until the step is over. Nothing where this thread is at a step already: that one would wait for this.
fn watch(is_over: &AtomicBool) {
    if IS_AT_A_STEP.get() {
        return;
    }
    let _at = At::a_step();
    let mut idle_since = None;
    while !is_over.load(Ordering::Acquire) {
        match rayon::yield_now() {
            Some(Yield::Executed) => idle_since = None,
            _ if idle_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE => break,
            // Loaders and other processes want to run too.
            _ => std::thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use rayon::prelude::*;

    use super::*;

    /// Steps within one another's threads, each with loops of its own: all end, and with what they computed.
    #[test]
    fn steps_side_by_side_do_not_wait_for_one_another() {
        let sums = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let sum: usize = awake(|| {
                            let nested = |i: usize| (0..i).into_par_iter().with_max_len(1).sum::<usize>();
                            (0..30).map(|_| (0..8).into_par_iter().with_max_len(1).map(nested).sum::<usize>()).sum()
                        });
                        sums.fetch_add(sum, Ordering::Relaxed);
                    }
                });
            }
        });
        // 0 + 0 + 1 + 3 + 6 + 10 + 15 + 21 a loop.
        assert_eq!(sums.into_inner(), 4 * 50 * 30 * 56);
    }

    /// In a pool of its own, where nothing else runs: the other thread is at the step, then no longer, and none is when it has panicked.
    #[test]
    fn a_watch_ends_with_its_patience_and_with_its_step() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("there are threads");
        // Asked of the other thread, as this one waits without looking for work.
        let other_is_at = || {
            let (tell, told) = std::sync::mpsc::channel();
            rayon::spawn(move || tell.send(IS_AT_A_STEP.get()).expect("somebody listens"));
            told.recv().expect("it runs")
        };
        pool.install(|| {
            awake(|| {
                assert!(other_is_at());
                let end = Instant::now() + Duration::from_secs(20);
                std::thread::sleep(2 * PATIENCE);
                while other_is_at() {
                    assert!(Instant::now() < end, "a watch has no end");
                    std::thread::sleep(2 * PATIENCE);
                }
                // What comes later is shared out as ever.
                assert_eq!((0..100_usize).into_par_iter().with_max_len(1).sum::<usize>(), 4950);
            });
            let panics = || awake(|| panic!("as the test has it"));
            assert!(std::panic::catch_unwind(panics).is_err());
            assert!(!other_is_at() && !IS_AT_A_STEP.get());
        });
    }
}
