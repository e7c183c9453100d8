//! The training loader: batches that stand ready before they are asked for.
//!
//! ```text
//! maker ──a task a sample──▶ rayon pool: decode, views, written to the sample's place in the batch
//!   └──a bounded channel a maker──▶ consumer, who takes from one maker after the other
//! ```
//! A maker is a thread that makes each n-th batch, and waits while the pool works. No task of the pool ever blocks or waits for
//! another, so a batch is done as soon as its last sample is. What is ahead is bounded by `prefetch` + [`MAKERS`] batches, and by
//! [`AHEAD_BYTES`]. Batches are whole: what joins samples wants them twice, and in bytes 4,096 samples of two views of 224 pixels are
//! 1.2 GB. Micro-batches are read where they lie ([`Inputs::of_micro`](crate::tensor::Inputs::of_micro)).
//!
//! **Invariant:** the sequence of batches hangs on the seed and the source, never on timing or the number of threads.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, TryRecvError, bounded};

use super::batch::{Filling, Share, batch_bytes, batch_key};
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
const MAKERS: usize = 2;

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
    /// The n-th batch comes from the maker n modulo their number; none once dropped.
    makers: Vec<(Receiver<TrainBatch>, JoinHandle<()>)>,
    /// Batches that were asked for.
    of: u64,
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
fn ahead(batch_bytes: u64, prefetch: usize) -> usize {
    let fit = AHEAD_BYTES / batch_bytes.max(1);
    (fit as usize).clamp(1, prefetch.max(1) + MAKERS)
}

/// Bytes that the loader holds at most, with the batch that is computed.
pub fn held_bytes(inputs: &[InputDecl], views: &[ViewSpec], prefetch: usize) -> u64 {
    let bytes = batch_bytes(inputs, views);
    bytes * (ahead(bytes, prefetch) as u64 + 1)
}

/// What makers and tasks need.
struct Shared {
    source: Arc<dyn Source>,
    plan: SamplePlan,
    inputs: Vec<InputDecl>,
    order: Order,
    share: Share,
    /// Places in a batch of the samples that are drawn.
    drawn: Vec<usize>,
    pool: rayon::ThreadPool,
    seed: u64,
    stop: Arc<AtomicBool>,
}

impl Loader {
    /// Starts to make batches for `inputs`, of which it makes a share: by a number that many samples, all of them.
    pub fn start(
        source: Arc<dyn Source>,
        views: &[ViewSpec],
        inputs: &[InputDecl],
        share: impl Into<Share>,
        options: LoaderOptions,
        steps: std::ops::Range<u64>,
    ) -> Result<Loader, DataError> {
        let plan = SamplePlan::new(views, inputs, options.pictures)?;
        let name = plan.source().unwrap_or("train").to_owned();
        let share = share.into();
        let batch_size = share.batch;
        let steps_per_epoch = steps_per_epoch(&*source, &name, batch_size)?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = |error: &dyn std::fmt::Display| DataError::Threads { message: error.to_string() };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads.max(1))
            .thread_name(|i| format!("cmae-loader-{i}"))
            .build()
            .map_err(|error| threads(&error))?;
        let own: Vec<InputDecl> = inputs.iter().map(|input| input.of_rows(batch_size, share.rows.len())).collect();
        let ahead = ahead(batch_bytes(&own, views), options.prefetch);
        let order = Order { seed: options.seed, name, batch_size, steps_per_epoch, epochs: Mutex::default() };
        let shared = Arc::new(Shared {
            source: source.clone(),
            plan,
            inputs: inputs.to_vec(),
            order,
            drawn: share.drawn(inputs),
            share,
            pool,
            seed: options.seed,
            stop: stop.clone(),
        });
        let count = ahead.min(MAKERS);
        let maker = |which: usize| {
            // Each holds one batch beside those in its channel.
            let (sender, ready) = bounded((ahead - which).div_ceil(count) - 1);
            let (shared, steps) = (shared.clone(), (steps.start + which as u64..steps.end).step_by(count));
            let batches = move || {
                // Nobody takes them once the loader is dropped.
                steps.map(|step| make(&shared, step)).try_for_each(|batch| sender.send(batch?).ok());
            };
            let thread = std::thread::Builder::new().name("cmae-batches".to_owned()).spawn(batches);
            Ok((ready, thread.map_err(|error| threads(&error))?))
        };
        Ok(Loader {
            source,
            max_broken: options.max_broken,
            of: steps.end.saturating_sub(steps.start),
            makers: (0..count).map(maker).collect::<Result<_, _>>()?,
            stop,
            counters: Counters::default(),
            broken: BTreeMap::new(),
            news: Vec::new(),
        })
    }

    /// The next batch, waited for where it is not ready; `None` after the last.
    pub fn next_batch(&mut self) -> Option<Result<TrainBatch, DataError>> {
        let maker = self.counters.batches as usize % self.makers.len().max(1);
        let (ready, _) = self.makers.get(maker)?;
        let batch = match ready.try_recv() {
            Ok(batch) => {
                self.counters.ready += 1;
                batch
            }
            Err(TryRecvError::Disconnected) => return self.end(),
            Err(TryRecvError::Empty) => {
                let start = Instant::now();
                let Ok(batch) = ready.recv() else { return self.end() };
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

    /// What comes behind the last batch. A maker that failed before is a fault of ours, and must not look like the end of a run.
    fn end(&self) -> Option<Result<TrainBatch, DataError>> {
        let (made, of) = (self.counters.batches, self.of);
        (made < of).then_some(Err(DataError::ThreadEnded { made, of }))
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
        // Tasks that wait in the pool end at once, and makers find their channels closed.
        self.stop.store(true, Ordering::Relaxed);
        let (channels, threads): (Vec<_>, Vec<_>) = self.makers.drain(..).unzip();
        drop(channels);
        for thread in threads {
            // Its panic, were there one, has been printed; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// Which image stands at which place of the run.
struct Order {
    seed: u64,
    name: String,
    batch_size: usize,
    steps_per_epoch: u64,
    /// Epochs with their permutations: that at hand, and the next where some maker has begun it.
    epochs: Mutex<VecDeque<(u64, Arc<Vec<u32>>)>>,
}

impl Order {
    /// The epoch of a step, and the images of its batch.
    fn images(&self, step: u64, source: &dyn Source) -> (u64, Vec<usize>) {
        let (epoch, within) = (step / self.steps_per_epoch, (step % self.steps_per_epoch) as usize);
        // Nothing panics that holds the lock but for want of memory, and then nothing goes on.
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let order = match epochs.iter().find(|(number, _)| *number == epoch) {
            Some((_, order)) => order.clone(),
            None => {
                let order = Arc::new(permutation(self.seed, epoch, &self.name, source));
                epochs.truncate(1);
                epochs.push_front((epoch, order.clone()));
                order
            }
        };
        let images = &order[within * self.batch_size..(within + 1) * self.batch_size];
        (epoch, images.iter().map(|index| *index as usize).collect())
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
pub(super) fn shuffle<T>(order: &mut [T], stream: &mut impl Draw) {
    for last in (1..order.len()).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
}

/// The batch of a step; `None` once nobody wants it.
fn make(shared: &Shared, step: u64) -> Option<TrainBatch> {
    let (epoch, batch) = shared.order.images(step, &*shared.source);
    let images: Vec<usize> = shared.drawn.iter().map(|place| batch[*place]).collect();
    let mut filling = Filling::new(&shared.inputs, &shared.plan.scalings(), &shared.share);
    let mut samples: Vec<Sample> = images.iter().map(|_| Sample::default()).collect();
    let places = filling.places();
    shared.pool.in_place_scope_fifo(|scope| {
        for ((image, sample), mut places) in images.iter().zip(&mut samples).zip(places) {
            scope.spawn_fifo(move |_| {
                if let Some(rows) = sample.draw(shared, *image, epoch) {
                    places.put(&rows);
                }
            });
        }
    });
    if shared.stop.load(Ordering::Relaxed) {
        return None;
    }
    let indices: Vec<usize> = samples.iter().filter_map(|sample| sample.image).collect();
    let complete = indices.len() == samples.len();
    let labels: Vec<i64> = indices.iter().map(|index| shared.source.label(*index).unwrap_or(-1)).collect();
    let inputs = if complete { filling.finish(&labels, batch_key(shared.seed, step)) } else { Vec::new() };
    let indices = indices.into_iter().take(shared.share.rows.len()).collect();
    Some(TrainBatch { inputs, indices, broken: samples.into_iter().flat_map(|s| s.broken).collect(), complete })
}

/// What a sample of a batch became.
#[derive(Default)]
struct Sample {
    /// The image that it shows; `None` where all were broken.
    image: Option<usize>,
    broken: Vec<(usize, String)>,
}

impl Sample {
    /// Draws `image`; where it is broken, another, by the key of `image`.
    fn draw(&mut self, shared: &Shared, image: usize, epoch: u64) -> Option<Rows> {
        let key = |image: usize| Key { seed: shared.seed, epoch, sample: image as u64 };
        let mut others = key(image).stream("replacement");
        let mut index = image;
        for _ in 0..=REPLACEMENTS {
            if shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            match draw(&*shared.source, &shared.plan, index, key(index)) {
                Ok(rows) => {
                    self.image = Some(index);
                    return Some(rows);
                }
                Err(reason) => self.broken.push((index, reason)),
            }
            index = others.below(shared.source.len() as u64) as usize;
        }
        None
    }
}

/// Reads and draws one sample; a decoder's panic on a damaged file is one more way for a file to be broken.
pub(super) fn draw(source: &dyn Source, plan: &SamplePlan, index: usize, key: Key) -> Result<Rows, String> {
    let read = || {
        let image = source.image(index)?;
        let label_map = plan.label_map(source, index, &image)?;
        let rows = plan.draw(&image, label_map.as_ref(), key)?;
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
