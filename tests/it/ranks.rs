//! Steps of several ranks are those of one machine with the same batch: losses, monitors, gradients, states and weights.
//!
//! Here the ranks are threads of one process; `mpirun` and a plugin's devices have tests of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use cmae::backend::{Backend, BackendOptions, Compute, Results, Wanted};
use cmae::graph::Program;
use cmae::plan::{Exchanged, Traffic};
use cmae::ranks::store::{Store, StoreError};
use cmae::ranks::{self, Ranks};
use cmae::spec::{Clock, MicroBatch, Recompute};
use cmae::tensor::{Element, HostTensor, InputValue, Levels, Values, ValuesMut};
use cmae::train::Trainer;

use crate::methods::{Method, batch, compile, page, sets_of, start};

/// Pipelines whose encoders, or networks behind them, see samples joined: SIM's heads are transformers with BatchNorm.
const COUPLED: [&str; 1] = ["sim_vitb"];

const STEPS: u64 = 3;

/// After three steps, of losses and of the largest weight: rounding of sums that are grouped otherwise.
pub const F64: f64 = 1e-12;
/// The same, or where a pipeline amplifies rounding, as BatchNorm does behind an encoder at its start, what it makes of f64's: f32
/// rounds 2²⁹ times as coarsely, and its sums meet other roundings than f64's do, up to four times as large.
pub const F32: f64 = 1e-5;
pub const COARSER: f64 = 4.0 * (1_u64 << 29) as f64;

/// What ranks that are threads hand to one another.
#[derive(Debug)]
struct Meeting {
    state: Mutex<State>,
    /// Of the results that rank 0 has got.
    gathered: Counted,
    summed: Counted,
    changed: Condvar,
    count: usize,
}

/// Exchanges and their values.
#[derive(Debug, Default)]
struct Counted {
    times: AtomicU64,
    floats: AtomicU64,
    ids: AtomicU64,
}

impl Counted {
    fn add(&self, values: &ValuesMut<'_>) {
        self.times.fetch_add(1, Ordering::Relaxed);
        match values {
            ValuesMut::F32(values) => self.floats.fetch_add(values.len() as u64, Ordering::Relaxed),
            ValuesMut::F64(values) => self.floats.fetch_add(values.len() as u64, Ordering::Relaxed),
            ValuesMut::I64(values) => self.ids.fetch_add(values.len() as u64, Ordering::Relaxed),
        };
    }

    fn of_step(&self) -> Exchanged {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) / STEPS;
        Exchanged { times: of(&self.times) as usize, floats: of(&self.floats), ids: of(&self.ids) }
    }
}

#[derive(Debug, Default)]
struct State {
    given: Vec<Option<Vec<f64>>>,
    /// Ranks that wait, and how often all have met.
    waiting: usize,
    met: u64,
    /// A rank has ended by a panic.
    gone: bool,
}

#[derive(Debug)]
struct Thread {
    rank: usize,
    meeting: Arc<Meeting>,
    wrong: Option<Wrong>,
}

/// What data parallel training is known to go wrong by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Gradients of the whole batch's loss are averaged, as those of each rank's own loss would have to be.
    Averaged,
    /// Each rank sees its own rows in the place of all: BatchNorm by itself, negatives of its own.
    Local,
    /// Labels and gradients without a rank's offset.
    WithoutOffset,
}

impl Meeting {
    fn new(count: usize) -> Arc<Self> {
        let state = State { given: vec![None; count], ..State::default() };
        Arc::new(Meeting {
            state: Mutex::new(state),
            gathered: Counted::default(),
            summed: Counted::default(),
            changed: Condvar::new(),
            count,
        })
    }

    /// Returns once all ranks have come here.
    fn wait(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let met = state.met;
        state.waiting += 1;
        if state.waiting == self.count {
            (state.waiting, state.met) = (0, met + 1);
            self.changed.notify_all();
        }
        while state.met == met {
            assert!(!state.gone, "another rank is gone");
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Tells the others where this one has panicked.
struct Leaving(Arc<Meeting>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state.lock().unwrap_or_else(PoisonError::into_inner).gone = true;
            self.0.changed.notify_all();
        }
    }
}

impl Thread {
    /// What all ranks have given, in their order.
    fn exchange<R>(&self, own: Values<'_>, read: impl FnOnce(&[Vec<f64>]) -> R) -> R {
        // Whole numbers and f32 are f64 exactly, as large as they are here.
        let own: Vec<f64> = match own {
            Values::F32(own) => own.iter().map(|v| f64::from(*v)).collect(),
            Values::F64(own) => own.to_vec(),
            Values::I64(own) => own.iter().map(|v| *v as f64).collect(),
        };
        let state = || self.meeting.state.lock().unwrap_or_else(PoisonError::into_inner);
        state().given[self.rank] = Some(own);
        self.meeting.wait();
        let given: Vec<Vec<f64>> = state().given.iter().map(|given| given.clone().expect("all have come")).collect();
        let read = read(&given);
        self.meeting.wait();
        read
    }
}

fn put(values: impl Iterator<Item = f64>, to: ValuesMut<'_>) {
    match to {
        ValuesMut::F32(to) => to.iter_mut().zip(values).for_each(|(to, v)| *to = v as f32),
        ValuesMut::F64(to) => to.iter_mut().zip(values).for_each(|(to, v)| *to = v),
        ValuesMut::I64(to) => to.iter_mut().zip(values).for_each(|(to, v)| *to = v as i64),
    }
}

impl Ranks for Thread {
    fn rank(&self) -> usize {
        if self.wrong == Some(Wrong::WithoutOffset) { 0 } else { self.rank }
    }

    fn count(&self) -> usize {
        self.meeting.count
    }

    fn local(&self) -> usize {
        self.meeting.count
    }

    fn local_rank(&self) -> usize {
        self.rank
    }

    fn store(&self) -> Result<Arc<Store>, StoreError> {
        Err(StoreError::Alone)
    }

    fn again(&self) -> String {
        String::new()
    }

    fn broadcast(&self, from: usize, values: ValuesMut<'_>) {
        if self.rank == 0 {
            self.meeting.gathered.add(&values);
        }
        let given = self.exchange(values.shared(), |given| given[from].clone());
        put(given.into_iter(), values);
    }

    fn all_gather(&self, own: Values<'_>, all: ValuesMut<'_>) {
        if self.rank == 0 {
            self.meeting.gathered.add(&all);
        }
        self.exchange(own, |given| match self.wrong {
            Some(Wrong::Local) => put(given[self.rank].repeat(given.len()).into_iter(), all),
            _ => put(given.concat().into_iter(), all),
        });
    }

    fn all_reduce(&self, own: Values<'_>, sum: ValuesMut<'_>) {
        if self.rank == 0 {
            self.meeting.summed.add(&sum);
        }
        self.exchange(own, |given| {
            // One number is a loss's sum.
            let averages = self.wrong == Some(Wrong::Averaged) && given[0].len() > 1;
            let of = if averages { given.len() as f64 } else { 1.0 };
            let at = |i: usize| given.iter().map(|given| given[i]).sum::<f64>() / of;
            put((0..given[0].len()).map(at), sum);
        });
    }

    fn end_all(&self) -> ! {
        panic!("rank {} ends all", self.rank)
    }
}

/// The rows of each input that are one rank's.
pub fn own_rows(program: &Program, inputs: &[(String, InputValue)], rank: usize) -> Vec<(String, InputValue)> {
    let decls = program.inputs_of(1);
    let own = |(name, value): &(String, InputValue)| {
        let ty = &decls.iter().find(|decl| decl.name == *name).expect("a batch brings what is declared").ty;
        (name.clone(), block(value, &ty.shape, rank))
    };
    inputs.iter().map(own).collect()
}

fn block(value: &InputValue, shape: &[usize], rank: usize) -> InputValue {
    fn rows<T: Clone>(tensor: &HostTensor<T>, shape: &[usize], rank: usize) -> HostTensor<T> {
        let len: usize = shape.iter().product();
        let at = if tensor.shape == shape { 0 } else { rank * len };
        HostTensor { shape: shape.to_vec(), data: tensor.data[at..at + len].to_vec() }
    }
    match value {
        InputValue::Float(tensor) => InputValue::Float(rows(tensor, shape, rank)),
        InputValue::Double(tensor) => InputValue::Double(rows(tensor, shape, rank)),
        InputValue::Int(tensor) => InputValue::Int(rows(tensor, shape, rank)),
        InputValue::Levels(levels) => {
            InputValue::Levels(Levels { tensor: rows(&levels.tensor, shape, rank), scaling: levels.scaling.clone() })
        }
    }
}

/// What a rank has after its steps.
pub struct Trained<E> {
    pub steps: Vec<Results<E>>,
    pub tensors: Vec<E>,
    /// Rank 0's, where they are shared out.
    pub slots: Vec<Vec<E>>,
}

fn train<E: Compute>(
    program: &Program,
    ranks: Arc<dyn Ranks>,
    tensors: Vec<E>,
    inputs: &[(String, InputValue)],
) -> Trained<E> {
    let backend = E::backend_with("cpu", &BackendOptions { ranks, ..BackendOptions::default() });
    train_on(program, backend.expect("every build has it"), tensors, inputs)
}

/// The steps on any backend.
pub fn train_on<E: Compute>(
    program: &Program,
    backend: Box<dyn Backend<E>>,
    tensors: Vec<E>,
    inputs: &[(String, InputValue)],
) -> Trained<E> {
    let name = &program.spec.name;
    let wanted = Wanted { outputs: &[], gradients: true };
    let session = backend.open(program, tensors).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut trainer = Trainer::new(program, session, Clock::new(1.0, STEPS));
    let step = |_| trainer.step_giving(inputs, wanted).unwrap_or_else(|error| panic!("{name}: {error}")).results;
    let steps = (0..STEPS).map(step).collect();
    let kept = trainer.kept().expect("they are there");
    Trained { steps, tensors: kept.tensors.to_vec(), slots: kept.slots.to_vec() }
}

/// All ranks of `program`, each on its rows of `inputs`.
fn spread<E: Compute>(
    program: &Program,
    tensors: &[E],
    inputs: &[(String, InputValue)],
    wrong: Option<Wrong>,
) -> (Vec<Trained<E>>, Traffic) {
    let meeting = Meeting::new(program.ranks);
    let trained = std::thread::scope(|scope| {
        let rank = |rank: usize| {
            let meeting = meeting.clone();
            let (own, tensors) = (own_rows(program, inputs, rank), tensors.to_vec());
            scope.spawn(move || {
                let _leaving = Leaving(meeting.clone());
                let engine = Arc::new(Thread { rank, meeting, wrong });
                // Of its own: a rank that waits for others must not hold a thread that they need.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread can be had");
                pool.install(|| train(program, engine, tensors, &own))
            })
        };
        let threads: Vec<_> = (0..program.ranks).map(rank).collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank ends well")).collect()
    });
    (trained, Traffic { gathered: meeting.gathered.of_step(), summed: meeting.summed.of_step() })
}

/// The largest difference of losses and monitors (of 1 or of their size), of gradients, states and weights (of their largest).
pub fn difference<E: Element>(a: &Trained<E>, b: &Trained<E>) -> f64 {
    let scalars = |a: &[f64], b: &[f64]| -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f64::max)
    };
    let tensors = |a: &[E], b: &[E]| -> f64 {
        assert_eq!(a.len(), b.len());
        let largest = a.iter().fold(0.0_f64, |largest, v| largest.max(v.to_f64().abs())).max(1e-30);
        a.iter().zip(b).map(|(a, b)| (a.to_f64() - b.to_f64()).abs() / largest).fold(0.0, f64::max)
    };
    let steps = a.steps.iter().zip(&b.steps).map(|(a, b)| {
        let losses = scalars(&a.losses, &b.losses).max(scalars(&a.monitors, &b.monitors));
        let states = tensors(&a.updates.concat(), &b.updates.concat());
        losses.max(scalars(&[a.total], &[b.total])).max(tensors(&a.gradients, &b.gradients)).max(states)
    });
    steps.fold(tensors(&a.tensors, &b.tensors), f64::max)
}

/// A pipeline of the page with a batch of 12, which 2, 3 and 4 ranks share out evenly, and an optimizer that makes no whole step of
/// a gradient that is nothing but rounding.
pub fn small(method: &Method) -> (Program, Vec<String>) {
    let mut sets = sets_of(&page(), method);
    sets.extend(
        ["data.batch_size=12", "train.optimizer=sgd(momentum: 0.9)", "train.learning_rate=0.005"].map(str::to_owned),
    );
    (compile(&method.pipeline, &sets), sets)
}

/// The difference of `ranks` ranks, each with so many micro-batches, from one machine.
fn apart<E: Compute>(method: &Method, ranks: usize, micro_batches: usize) -> f64 {
    let (alone, sets) = small(method);
    let mut spread_out = Program { ranks, ..alone.clone() };
    if micro_batches > 1 {
        spread_out.spec.train.micro_batch = MicroBatch::Of(12 / ranks / micro_batches);
    }
    apart_as::<E>(method, &sets, (&alone, &spread_out))
}

fn apart_as<E: Compute>(method: &Method, sets: &[String], (alone, spread_out): (&Program, &Program)) -> f64 {
    let (ranks, micro_batches) = (spread_out.ranks, spread_out.own_micro_batches());
    let (tensors, inputs) = (start::<E>(alone, sets), batch(alone));
    let one = train(alone, ranks::alone(), tensors.clone(), &inputs);
    let (all, traffic) = spread(spread_out, &tensors, &inputs, None);
    // What `show cost --ranks` says by arithmetic; k-means starts are exchanged once.
    if alone.train.initial.is_empty() {
        assert_eq!(traffic, Traffic::of_step(spread_out).expect("it has a step"), "{}", method.pipeline);
    }
    for other in &all[1..] {
        assert!(other.tensors == all[0].tensors, "{}: {ranks} ranks have different weights", method.pipeline);
        for (first, step) in all[0].steps.iter().zip(&other.steps) {
            assert!(first.losses == step.losses && first.gradients == step.gradients, "{}", method.pipeline);
        }
    }
    assert!(one.tensors != tensors, "{} did not move", method.pipeline);
    let found = difference(&one, &all[0]);
    println!("{} on {ranks} ranks by {micro_batches}, {}: {found:.1e}", method.pipeline, E::NAME);
    found
}

fn agree(method: &Method, ranks: usize, micro_batches: usize) -> f64 {
    let found = apart::<f64>(method, ranks, micro_batches);
    assert!(found <= F64, "{} on {ranks} ranks: {found:e}", method.pipeline);
    found
}

/// How a batch of 12 may be shared out: ranks, and micro-batches of each.
pub const WAYS: [(usize, usize); 5] = [(2, 1), (3, 1), (4, 1), (2, 3), (3, 2)];

pub fn methods() -> Vec<Method> {
    page().methods.into_iter().filter(|method| !COUPLED.contains(&method.pipeline.as_str())).collect()
}

/// All are tried, so that one run tells of every pipeline that fails.
pub fn all(methods: &[Method], agree: impl Fn(usize, &Method)) {
    let fails = |(at, method): &(usize, &Method)| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| agree(*at, method))).is_err()
    };
    let failed: Vec<&str> =
        methods.iter().enumerate().filter(fails).map(|(_, method)| method.pipeline.as_str()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Each pipeline in one of the ways; [`every_pipeline_in_every_way`] tries them all.
#[test]
fn several_ranks_make_the_steps_of_one() {
    all(&methods(), |at, method| {
        let (ranks, micro_batches) = WAYS[at % WAYS.len()];
        agree(method, ranks, micro_batches);
    });
}

#[test]
#[ignore = "five minutes: cargo test -- --ignored every_pipeline_in_every_way"]
fn every_pipeline_in_every_way() {
    all(&methods(), |_, method| {
        // What the pipeline makes of rounding is its own, and no way's: the worst of them tells.
        let rounding = WAYS.map(|(ranks, micro_batches)| agree(method, ranks, micro_batches));
        let allowed = F32.max(COARSER * rounding.into_iter().fold(0.0, f64::max));
        for (ranks, micro_batches) in WAYS {
            let found = apart::<f32>(method, ranks, micro_batches);
            assert!(found <= allowed, "{} on {ranks} ranks, f32: {found:e} > {allowed:e}", method.pipeline);
        }
    });
}

/// Whether each rank updates all or its own part of the parameters, they are the same bytes, and so is what the optimizer keeps.
#[test]
fn ranks_share_out_what_the_optimizer_keeps() {
    let methods = methods();
    let method = methods.iter().find(|method| method.pipeline == "mae_vitb").expect("the page has it");
    let (_, sets) = small(method);
    for optimizer in
        ["adamw(weight_decay: 0.05)", "sgd(momentum: 0.9)", "lars(momentum: 0.9, trust_coefficient: 0.001)"]
    {
        let mut sets = sets.clone();
        sets.extend([format!("train.optimizer={optimizer}"), "train.clip=each_norm(0.5)".to_owned()]);
        let alone = compile(&method.pipeline, &sets);
        let (tensors, inputs) = (start::<f64>(&alone, &sets), batch(&alone));
        let of = |sharded: bool| {
            let program = Program { ranks: 3, sharded, ..alone.clone() };
            let (ranks, traffic) = spread(&program, &tensors, &inputs, None);
            (ranks, traffic, Traffic::of_step(&program).expect("it has a step"))
        };
        let (whole, ..) = of(false);
        let (shared, traffic, expected) = of(true);
        // What was put together for a checkpoint is no step's.
        let put_together = whole[0].slots.concat().len() as u64 / STEPS;
        assert_eq!(traffic.gathered.floats, expected.gathered.floats + put_together, "{optimizer}");
        assert_eq!(traffic.summed, expected.summed, "{optimizer}");
        assert!(whole[0].tensors != tensors, "{optimizer} moves nothing");
        assert!(shared.iter().all(|rank| rank.tensors == whole[0].tensors), "{optimizer}: other weights");
        assert!(shared[0].slots == whole[0].slots, "{optimizer}: other slots");
    }
}

/// Blocks that are computed again are so on each rank, and nothing is exchanged twice.
#[test]
fn ranks_compute_blocks_again() {
    let methods = methods();
    let method = methods.iter().find(|method| method.pipeline == "cmae_vitb").expect("the page has it");
    let (alone, sets) = small(method);
    let mut spread_out = Program { ranks: 2, ..alone.clone() };
    let once = Traffic::of_step(&spread_out).expect("it has a step");
    spread_out.spec.train.recompute = Recompute::Blocks;
    assert_eq!(Traffic::of_step(&spread_out).expect("it has a step"), once);
    let found = apart_as::<f64>(method, &sets, (&alone, &spread_out));
    assert!(found <= F64, "{found:e}");
}

/// What must show.
#[test]
fn what_goes_wrong_elsewhere_shows() {
    let methods = methods();
    for (pipeline, twins) in [
        ("cmae_vitb", vec![Wrong::Averaged, Wrong::Local, Wrong::WithoutOffset]),
        // A mean over samples has no negatives, but its gradients are a sum all the same.
        ("mae_vitb", vec![Wrong::Averaged]),
        ("barlow_twins_vitb", vec![Wrong::Local]),
        ("dino_vitb", vec![Wrong::Averaged, Wrong::Local]),
    ] {
        let method = methods.iter().find(|method| method.pipeline == pipeline).expect("the page has it");
        let (alone, sets) = small(method);
        let (tensors, inputs) = (start::<f64>(&alone, &sets), batch(&alone));
        let one = train(&alone, ranks::alone(), tensors.clone(), &inputs);
        let spread_out = Program { ranks: 2, ..alone.clone() };
        for wrong in twins {
            let found = difference(&one, &spread(&spread_out, &tensors, &inputs, Some(wrong)).0[0]);
            println!("{pipeline}, {wrong:?}: {found:.1e}");
            assert!(found > 1e3 * F64, "{pipeline}, {wrong:?}: {found:e}");
        }
    }
}

/// A batch that cannot be shared out is refused with what can be.
#[test]
fn an_uneven_batch_is_refused_with_what_fits() {
    let methods = methods();
    let (alone, _) = small(&methods[0]);
    let said = |ranks: usize| Program { ranks, ..alone.clone() }.step(&[]).err().map(|error| error.to_string());
    assert_eq!(said(4), None);
    let uneven = said(5).expect("12 is not 5 times anything");
    assert!(uneven.contains("5 ranks") && uneven.contains("4 ranks, or --set data.batch_size=15"), "{uneven}");
    // Micro-batches are as large as they may be and all of one size.
    let mut program = Program { ranks: 2, ..alone.clone() };
    for (most, count) in [(12, 1), (6, 1), (5, 2), (4, 2), (3, 2), (2, 3), (1, 6)] {
        program.spec.train.micro_batch = MicroBatch::Of(most);
        assert_eq!(program.own_micro_batches(), count, "at most {most} of 6");
    }
}
