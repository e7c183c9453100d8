//! A command that several ranks give at once: they end together, and one of them speaks.
//!
//! **Invariant:** a rank that cannot go on says why under its number, and ends all: none waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use cmae::graph::Program;
use cmae::ranks::store::StoreError;
use cmae::ranks::{self, JoinError, Joined, Launched, Ranks};
use cmae::spec::MicroBatch;
use cmae::train::{StepLine, Watch};

use super::output::errln;
use super::signals;

/// Joins the ranks that this process was started with, and does what they are started for. What it gives is told as the error of a
/// command that was stopped.
pub fn main(work: impl FnOnce(&Arc<dyn Ranks>) -> Result<Option<String>, String>) -> Result<(), String> {
    let joined = join().map_err(|error| error.to_string())?;
    let engine = joined.ranks.clone();
    if engine.count() == 1 {
        return work(&engine)?.map_or(Ok(()), Err);
    }
    let (rank, count) = (engine.rank(), engine.count());
    // What a panic is has been printed.
    let ended = catch_unwind(AssertUnwindSafe(|| work(&engine))).unwrap_or_else(|_| Err("it failed".to_owned()));
    match ended {
        Ok(None) => Ok(()),
        // Told while all are still there: a launcher may end the others as soon as the first has left.
        Ok(Some(stopped)) if rank == 0 => {
            errln!("{stopped}");
            Err(String::new())
        }
        Ok(Some(_)) => Ok(()),
        Err(message) => {
            if rank > 0 {
                // What all ranks find is told once.
                std::thread::sleep(FIRST_WORD);
            }
            errln!("rank {rank} of {count}: {message}");
            end_soon();
            engine.end_all()
        }
    }
}

/// Joins the ranks, and says what it waits for where that takes long: a launcher's variables may be left over from another job.
fn join() -> Result<Joined, JoinError> {
    let launched = Launched::read(|name| std::env::var(name).ok());
    let (joined, is_joined) = mpsc::channel::<()>();
    if let Some(Launched { by, rank, count: count @ 2.., .. }) = launched {
        std::thread::spawn(move || {
            if let Err(RecvTimeoutError::Timeout) = is_joined.recv_timeout(LONG) {
                errln!("rank {rank} of {count}, by the variables of {by}, waits for the others to come");
            }
        });
    }
    let found = ranks::join(lost);
    drop(joined);
    found
}

/// More than ranks of one launcher are apart.
const LONG: Duration = Duration::from_secs(10);

/// Ends this process, since a rank is gone, or has ended all.
fn lost(error: &StoreError) -> ! {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if TOLD.swap(true, Ordering::Relaxed) {
        // Another thread has told it, and ends this one, too.
        loop {
            std::thread::park();
        }
    }
    if !matches!(error, StoreError::Ended { .. }) {
        errln!("{error}; this process ends, too");
    }
    end_soon();
    signals::leave(1)
}

/// Sees to it that this process ends: what an accelerator's runtime does then may wait for a rank that is gone.
fn end_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(END);
        std::process::abort()
    });
}

/// How long a process has to end.
const END: Duration = Duration::from_secs(5);

/// How long rank 0 has to say what is wrong, and to end all, before another does: launchers take up to two seconds for it.
const FIRST_WORD: Duration = Duration::from_secs(4);

/// The micro-batch that rank 0 found its run started with is that of all.
pub fn start_with(ranks: &dyn Ranks, program: &mut Program, kept: Option<MicroBatch>) {
    let own = match kept {
        Some(MicroBatch::Of(samples)) => samples as i64,
        Some(MicroBatch::Auto) | None => 0,
    };
    let mut told = vec![own];
    ranks::of_first(ranks, &mut told);
    if let Some(samples) = told.first().copied().filter(|samples| *samples > 0) {
        program.spec.train.micro_batch = MicroBatch::Of(samples as usize);
    }
}

/// All ranks cut their rows alike, as the one with the least memory has to, and share out what the optimizer keeps where one has to.
pub fn fit_all(ranks: &dyn Ranks, program: &mut Program) {
    if ranks.count() == 1 {
        return;
    }
    program.sharded = ranks::any(ranks, program.sharded);
    let own = program.spec.micro_batch() as i64;
    let least = ranks::each(ranks, own).into_iter().min().unwrap_or(own);
    program.spec.train.micro_batch = MicroBatch::Of(least as usize);
}

/// Who looks on beside rank 0, which says what all ranks see.
pub struct Beside {
    rank: usize,
    stop: Arc<AtomicBool>,
}

impl Beside {
    pub fn new(rank: usize, stop: Arc<AtomicBool>) -> Self {
        Beside { rank, stop }
    }
}

impl Watch for Beside {
    fn begin(&mut self, _: u64, _: u64, _: usize) {}

    fn step(&mut self, _: &StepLine<'_>) {}

    fn say(&mut self, _: &str) {}

    fn say_own(&mut self, line: &str) {
        errln!("rank {}: {line}", self.rank);
    }

    fn asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn end(&mut self) {}
}
