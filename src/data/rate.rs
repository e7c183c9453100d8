//! How fast pictures come: some of a source's, read and drawn as the loader does it, with nothing beside.
//!
//! **Invariant:** what is timed is the loader's work, all of it and on as many threads: whole pictures of the source, in an order
//! of a run, with all views that the inputs want.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::decode;
use super::error::DataError;
use super::loader::{LoaderOptions, permutation};
use super::rng::Key;
use super::sample::SamplePlan;
use super::source::Source;
use crate::decl::InputDecl;
use crate::spec::ViewSpec;

/// Pictures of each thread that are drawn before the clock counts.
const WARM_UP: usize = 4;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Pictures that were drawn, at least one.
    pub pictures: usize,
    pub broken: usize,
    pub threads: usize,
    pub seconds: f64,
    /// Seconds of all threads together in which files were read and decoded.
    pub reading: f64,
    /// The same for the views.
    pub drawing: f64,
}

impl Rate {
    /// Pictures a second with all their views.
    pub fn per_second(&self) -> f64 {
        self.pictures as f64 / self.seconds
    }

    /// The same of one thread while it works.
    pub fn per_second_of_thread(&self) -> f64 {
        self.pictures as f64 / (self.reading + self.drawing)
    }
}

/// Times `count` pictures of the source, or all where it has fewer; `None` where none of them can be read.
///
/// # Errors
/// Where the views start from several sources, or threads cannot be started.
pub fn rate(
    source: &dyn Source,
    views: &[ViewSpec],
    inputs: &[InputDecl],
    options: LoaderOptions,
    count: usize,
) -> Result<Option<Rate>, DataError> {
    let plan = SamplePlan::new(views, inputs, options.pictures)?;
    let order = permutation(options.seed, 0, plan.source().unwrap_or("train"), source);
    let threads = options.threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| DataError::Threads { message: error.to_string() })?;
    let draw = |index: &u32| timed(source, &plan, *index as usize, options.seed);
    let order = &order[..count.min(order.len())];
    pool.install(|| order.par_iter().take(WARM_UP * threads).filter_map(draw).count());
    let start = Instant::now();
    let times: Vec<(Duration, Duration)> = pool.install(|| order.par_iter().filter_map(draw).collect());
    let seconds = start.elapsed().as_secs_f64();
    let sum = |of: fn(&(Duration, Duration)) -> Duration| times.iter().map(of).sum::<Duration>().as_secs_f64();
    let (pictures, broken) = (times.len(), order.len() - times.len());
    let (reading, drawing) = (sum(|time| time.0), sum(|time| time.1));
    Ok((pictures > 0).then_some(Rate { pictures, broken, threads, seconds, reading, drawing }))
}

/// How long a picture takes to be read, and to be drawn; `None` for one that is broken.
fn timed(source: &dyn Source, plan: &SamplePlan, index: usize, seed: u64) -> Option<(Duration, Duration)> {
    let start = Instant::now();
    let image = source.image(index).ok()?;
    let label_map = plan.label_map(source, index, &image).ok()?;
    let read = start.elapsed();
    plan.draw(&image, label_map.as_ref(), Key { seed, epoch: 0, sample: index as u64 }).ok()?;
    decode::give_back(image);
    Some((read, start.elapsed() - read))
}
