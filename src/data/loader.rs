//! The training loader: batches that stand ready before they are asked for.
//!
//! ```text
//! coordinator ──spawn──▶ rayon pool: decode, views ──unbounded channel──▶ coordinator ──bounded channel──▶ consumer
//!      ▲  one task a sample, at most IN_FLIGHT batches' worth                │ batches in order
//!      └───────────────────────────────────────────────────────────────────┘
//! ```
//! No task of the pool ever blocks: results go into an unbounded channel, and the coordinator, a thread of its own,
//! submits a batch only when fewer than [`IN_FLIGHT`] are being made, and puts a sample into its batch as it comes. What is ahead is
//! bounded by `prefetch` + [`IN_FLIGHT`] batches, and by [`AHEAD_BYTES`].
//!
//! **Invariant:** the sequence of batches hangs on the seed and the source, never on timing or the number of threads.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

use super::batch::{Filling, batch_bytes, batch_key};
use super::decode;
use super::error::DataError;
use super::rng::Key;
use super::sample::{Rows, SamplePlan};
use super::source::Source;
use super::view::Draw;
use crate::decl::InputDecl;
use crate::spec::ViewSpec;
use crate::tensor::{InputValue, Pictures};

/// Batches that are being made at once, where memory allows for it: the pool works on the next while the last samples of one are
/// still out.
const IN_FLIGHT: usize = 2;

/// Bytes of batches that may be ahead of the one that is computed; one is, whatever it takes.
const AHEAD_BYTES: u64 = 1 << 31;

/// Pictures that are drawn from at once where a source has groups: those of some shards of a usual size.
const WINDOW: usize = 8192;

/// Images tried in the place of broken ones, for one sample.
const REPLACEMENTS: usize = 20;

/// Broken images that stop no run where any may be broken: of a few dozen, one is more than a hundredth.
const FEW: f64 = 3.0;

#[derive(Debug, Clone, Copy)]
pub struct LoaderOptions {
    pub seed: u64,
    /// Workers that decode and draw; at least one.
    pub threads: usize,
    /// Capacity of the channel of ready batches; at least one.
    pub prefetch: usize,
    /// Share of the source's images that may be broken; a few may in any case, unless it is 0.
    pub max_broken: f64,
    /// The form that the session takes pictures in.
    pub pictures: Pictures,
}

/// One batch of training.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainBatch {
    pub inputs: Vec<(String, InputValue)>,
    /// Indices into the source, as shown.
    pub indices: Vec<usize>,
    /// Images found broken on the way: (index, reason).
    broken: Vec<(usize, String)>,
    /// False where no image could be found in the place of broken ones.
    complete: bool,
}

/// What the loader did so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counters {
    pub batches: u64,
    /// Batches that stood ready when they were asked for.
    pub ready: u64,
    /// Time that the consumer waited for the others.
    pub waited: Duration,
    /// Images that could not be used.
    pub broken: usize,
}

/// Makes the batches `first_step..total_steps` of a run.
pub struct Loader {
    source: Arc<dyn Source>,
    max_broken: f64,
    /// `None` once dropped.
    ready: Option<Receiver<TrainBatch>>,
    coordinator: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    counters: Counters,
    broken: BTreeMap<usize, String>,
    /// Found since last asked for.
    news: Vec<(String, String)>,
}

/// Whole batches in one epoch; the rest is dropped.
pub fn steps_per_epoch(source: &dyn Source, source_name: &str, batch_size: usize) -> Result<u64, DataError> {
    match source.len() / batch_size.max(1) {
        0 => {
            Err(DataError::BatchTooLarge { batch: batch_size, len: source.len(), source_name: source_name.to_owned() })
        }
        steps => Ok(steps as u64),
    }
}

/// Batches, made or being made, that are ahead of the one that is computed.
fn ahead(inputs: &[InputDecl], prefetch: usize) -> usize {
    let fit = AHEAD_BYTES / batch_bytes(inputs).max(1);
    (fit as usize).clamp(1, prefetch.max(1) + IN_FLIGHT)
}

/// Bytes that the loader holds at most, with the batch that is computed: fewer where pictures are not normalised yet.
pub fn held_bytes(inputs: &[InputDecl], prefetch: usize) -> u64 {
    batch_bytes(inputs) * (ahead(inputs, prefetch) as u64 + 1)
}

/// A sample's place in the run.
#[derive(Clone, Copy)]
struct Place {
    step: u64,
    row: usize,
    epoch: u64,
    index: usize,
}

/// What a task of the pool sends back.
struct Made {
    place: Place,
    /// Rows and the index of the image that they show; `None` where all were broken.
    sample: Option<(Rows, usize)>,
    broken: Vec<(usize, String)>,
}

/// What every task needs.
struct Shared {
    source: Arc<dyn Source>,
    plan: SamplePlan,
    inputs: Vec<InputDecl>,
    seed: u64,
    stop: Arc<AtomicBool>,
}

impl Loader {
    /// Starts to make batches of `batch_size` for `inputs`.
    pub fn start(
        source: Arc<dyn Source>,
        views: &[ViewSpec],
        inputs: &[InputDecl],
        batch_size: usize,
        options: LoaderOptions,
        steps: std::ops::Range<u64>,
    ) -> Result<Loader, DataError> {
        let plan = SamplePlan::new(views, inputs, options.pictures)?;
        let name = plan.source().unwrap_or("train").to_owned();
        let steps_per_epoch = steps_per_epoch(&*source, &name, batch_size)?;
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            source: source.clone(),
            plan,
            inputs: inputs.to_vec(),
            seed: options.seed,
            stop: stop.clone(),
        });
        let ahead = ahead(inputs, options.prefetch);
        let in_flight = ahead.min(IN_FLIGHT);
        let (sender, ready) = bounded(ahead - in_flight);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads.max(1))
            .thread_name(|i| format!("cmae-loader-{i}"))
            .build()
            .map_err(|error| DataError::Threads { message: error.to_string() })?;
        let order = Order { shared: shared.clone(), name, batch_size, steps_per_epoch, current: None };
        let coordinator = std::thread::Builder::new()
            .name("cmae-loader".to_owned())
            .spawn(move || coordinate(&shared, &pool, order, steps, in_flight, &sender))
            .map_err(|error| DataError::Threads { message: error.to_string() })?;
        Ok(Loader {
            source,
            max_broken: options.max_broken,
            ready: Some(ready),
            coordinator: Some(coordinator),
            stop,
            counters: Counters::default(),
            broken: BTreeMap::new(),
            news: Vec::new(),
        })
    }

    /// The next batch, waited for where it is not ready; `None` after the last.
    pub fn next_batch(&mut self) -> Option<Result<TrainBatch, DataError>> {
        let ready = self.ready.as_ref()?;
        let batch = match ready.try_recv() {
            Ok(batch) => {
                self.counters.ready += 1;
                batch
            }
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {
                let start = Instant::now();
                let batch = ready.recv().ok()?;
                self.counters.waited += start.elapsed();
                batch
            }
        };
        self.counters.batches += 1;
        // Pictures of a disk that is gone are not broken: no other may stand in for them.
        if let (false, Err(error)) = (batch.broken.is_empty(), self.source.check()) {
            return Some(Err(error));
        }
        for (index, reason) in &batch.broken {
            if self.broken.insert(*index, reason.clone()).is_none() {
                self.news.push((self.source.name(*index), reason.clone()));
            }
        }
        self.counters.broken = self.broken.len();
        if !batch.complete || self.broken.len() as f64 > self.allowed() {
            let last = batch.broken.last().map(|(index, reason)| format!("{}: {reason}", self.source.name(*index)));
            return Some(Err(DataError::TooManyBroken {
                broken: self.broken.len(),
                tried: self.source.len(),
                limit: self.max_broken,
                last: last.unwrap_or_default(),
            }));
        }
        Some(Ok(batch))
    }

    /// Broken pictures that stop nothing.
    fn allowed(&self) -> f64 {
        if self.max_broken == 0.0 { 0.0 } else { (self.max_broken * self.source.len() as f64).max(FEW) }
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Broken images found since the last call: (name, reason).
    pub fn take_broken(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.news)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Tasks that wait in the pool end at once, and the coordinator finds its channel closed.
        self.stop.store(true, Ordering::Relaxed);
        self.ready = None;
        if let Some(coordinator) = self.coordinator.take() {
            // Its panic, were there one, has been printed; there is nobody left to tell.
            let _ = coordinator.join();
        }
    }
}

/// Which image stands at which place of the run.
struct Order {
    shared: Arc<Shared>,
    name: String,
    batch_size: usize,
    steps_per_epoch: u64,
    /// An epoch and its permutation.
    current: Option<(u64, Vec<u32>)>,
}

impl Order {
    fn places(&mut self, step: u64) -> Vec<Place> {
        let (epoch, within) = (step / self.steps_per_epoch, (step % self.steps_per_epoch) as usize);
        if self.current.as_ref().is_none_or(|(current, _)| *current != epoch) {
            self.current = Some((epoch, permutation(self.shared.seed, epoch, &self.name, &*self.shared.source)));
        }
        let order = self.current.as_ref().map_or(&[][..], |(_, order)| order);
        let rows = &order[within * self.batch_size..(within + 1) * self.batch_size];
        rows.iter().enumerate().map(|(row, index)| Place { step, row, epoch, index: *index as usize }).collect()
    }
}

/// The order of a source's pictures in an epoch: any, or where it has groups, that of the groups, and then any within each
/// [`WINDOW`] of pictures. So a group is read from its begin to its end with few others beside it.
pub(super) fn permutation(seed: u64, epoch: u64, name: &str, source: &dyn Source) -> Vec<u32> {
    let mut stream = Key { seed, epoch, sample: 0 }.stream(&format!("order.{name}"));
    let mut order: Vec<u32> = (0..source.len() as u32).collect();
    if source.groups().is_empty() {
        shuffle(&mut order, &mut stream);
        return order;
    }
    let mut groups: Vec<usize> = (0..source.groups().len()).collect();
    shuffle(&mut groups, &mut stream);
    let begin = |group: usize| group.checked_sub(1).map_or(0, |before| source.groups()[before]) as u32;
    order = groups.into_iter().flat_map(|group| begin(group)..source.groups()[group] as u32).collect();
    order.chunks_mut(WINDOW).for_each(|window| shuffle(window, &mut stream));
    order
}

/// Fisher and Yates.
fn shuffle<T>(order: &mut [T], stream: &mut impl Draw) {
    for last in (1..order.len()).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
}

/// A batch whose samples come in, in any order.
struct Growing<'a> {
    filling: Filling<'a>,
    /// Of each sample, the image that it shows, where one was found.
    indices: Vec<Option<usize>>,
    broken: Vec<Vec<(usize, String)>>,
    missing: usize,
}

impl<'a> Growing<'a> {
    fn new(inputs: &'a [InputDecl], samples: usize) -> Self {
        let (indices, broken) = (vec![None; samples], vec![Vec::new(); samples]);
        Growing { filling: Filling::new(inputs), indices, broken, missing: samples }
    }

    fn put(&mut self, made: Made) {
        let row = made.place.row;
        if let Some((rows, index)) = made.sample {
            self.filling.put(row, &rows);
            self.indices[row] = Some(index);
        }
        self.broken[row] = made.broken;
        self.missing -= 1;
    }
}

fn coordinate(
    shared: &Arc<Shared>,
    pool: &rayon::ThreadPool,
    mut order: Order,
    steps: std::ops::Range<u64>,
    in_flight: usize,
    ready: &Sender<TrainBatch>,
) {
    let (sender, results) = unbounded::<Made>();
    let mut growing: VecDeque<Growing<'_>> = VecDeque::new();
    let (mut submitted, mut delivered) = (steps.start, steps.start);
    while delivered < steps.end {
        while submitted < steps.end && growing.len() < in_flight {
            let places = order.places(submitted);
            growing.push_back(Growing::new(&shared.inputs, places.len()));
            for place in places {
                let (shared, sender) = (shared.clone(), sender.clone());
                pool.spawn(move || {
                    // The receiver is gone only when the loader is.
                    let _ = sender.send(make(&shared, place));
                });
            }
            submitted += 1;
        }
        let Ok(made) = results.recv() else { return };
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let batch = &mut growing[(made.place.step - delivered) as usize];
        batch.put(made);
        while growing.front().is_some_and(|batch| batch.missing == 0) {
            let Some(batch) = growing.pop_front() else { break };
            if ready.send(finish(shared, batch, delivered)).is_err() {
                return;
            }
            delivered += 1;
        }
    }
}

fn finish(shared: &Shared, batch: Growing<'_>, step: u64) -> TrainBatch {
    let Growing { filling, indices: found, broken, .. } = batch;
    let indices: Vec<usize> = found.iter().copied().flatten().collect();
    let complete = indices.len() == found.len();
    let labels: Vec<i64> = indices.iter().map(|index| shared.source.label(*index).unwrap_or(-1)).collect();
    let inputs = if complete { filling.finish(&labels, batch_key(shared.seed, step)) } else { Vec::new() };
    TrainBatch { inputs, indices, broken: broken.concat(), complete }
}

/// The sample at a place; where its image is broken, that of another image, drawn by the place's key.
fn make(shared: &Shared, place: Place) -> Made {
    let mut made = Made { place, sample: None, broken: Vec::new() };
    let (seed, epoch) = (shared.seed, place.epoch);
    let mut others = Key { seed, epoch, sample: place.index as u64 }.stream("replacement");
    let mut index = place.index;
    for _ in 0..=REPLACEMENTS {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let key = Key { seed, epoch, sample: index as u64 };
        match draw(&*shared.source, &shared.plan, index, key) {
            Ok(rows) => {
                made.sample = Some((rows, index));
                break;
            }
            Err(reason) => made.broken.push((index, reason)),
        }
        index = others.below(shared.source.len() as u64) as usize;
    }
    made
}

/// Reads and draws one sample; a decoder's panic on a damaged file is one more way for a file to be broken.
pub(super) fn draw(source: &dyn Source, plan: &SamplePlan, index: usize, key: Key) -> Result<Rows, String> {
    let read = || {
        let image = source.image(index)?;
        let rows = plan.draw(&image, key)?;
        decode::give_back(image);
        Ok(rows)
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the decoder failed on it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Image;
    use crate::data::source::Identity;

    /// Groups of 1000 pictures, of which none is read.
    struct Grouped(Vec<usize>);

    impl Source for Grouped {
        fn len(&self) -> usize {
            30_000
        }
        fn image(&self, _: usize) -> Result<Image, String> {
            Err("there is none".to_owned())
        }
        fn label(&self, _: usize) -> Option<i64> {
            None
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn identity(&self, index: usize) -> Identity {
            Identity::of_text(&self.name(index))
        }
        fn groups(&self) -> &[usize] {
            &self.0
        }
    }

    #[test]
    fn groups_are_read_one_after_the_other_and_every_picture_once() {
        let by_group = Grouped((1..=30).map(|group| group * 1000).collect());
        let of = |epoch: u64, source: &Grouped| permutation(7, epoch, "train", source);
        let order = of(0, &by_group);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..30_000));
        let groups = |order: &[u32]| {
            let of_each = order.iter().map(|index| index / 1000);
            of_each.collect::<std::collections::BTreeSet<_>>().len()
        };
        // Whole ones and a part at either end.
        assert!(order.chunks(WINDOW).all(|window| groups(window) <= WINDOW / 1000 + 2));
        // Within a window they are mixed, and their order is another in another epoch.
        assert!(groups(&order[..100]) > 5);
        assert!(order != of(1, &by_group) && order == of(0, &by_group));
        assert!(groups(&of(0, &Grouped(Vec::new()))[..WINDOW]) == 30, "without groups it is drawn from all");
    }
}
