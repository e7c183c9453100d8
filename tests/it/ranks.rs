//! Steps of several ranks are those of one machine with the same batch: losses, monitors, gradients, states and weights.
//!
//! Here the ranks are threads of one process; `mpirun` and a plugin's devices have tests of their own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use cmae::backend::{BackendOptions, Compute, Results};
use cmae::graph::{Graph, Program};
use cmae::op::Op;
use cmae::ranks::{self, Ranks};
use cmae::spec::{Clock, MicroBatch};
use cmae::tensor::{Element, HostTensor, InputValue, Levels, Values, ValuesMut};
use cmae::train::Trainer;

use crate::methods::{Method, batch, compile, page, sets_of, start};

/// Pipelines whose encoders, or networks behind them, see samples joined: SIM's heads are transformers with BatchNorm.
const COUPLED: [&str; 1] = ["sim_vitb"];

const STEPS: u64 = 3;

/// What ranks that are threads hand to one another.
#[derive(Debug)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
    count: usize,
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
}

impl Meeting {
    fn new(count: usize) -> Arc<Self> {
        let state = State { given: vec![None; count], ..State::default() };
        Arc::new(Meeting { state: Mutex::new(state), changed: Condvar::new(), count })
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
        self.rank
    }

    fn count(&self) -> usize {
        self.meeting.count
    }

    fn all_gather(&self, own: Values<'_>, all: ValuesMut<'_>) {
        self.exchange(own, |given| put(given.concat().into_iter(), all));
    }

    fn all_reduce(&self, own: Values<'_>, sum: ValuesMut<'_>) {
        self.exchange(own, |given| {
            let at = |i: usize| given.iter().map(|given| given[i]).sum::<f64>();
            put((0..given[0].len()).map(at), sum);
        });
    }

    fn end_all(&self) -> ! {
        panic!("rank {} ends all", self.rank)
    }
}

/// The rows of each input that are one rank's.
fn own_rows(program: &Program, inputs: &[(String, InputValue)], rank: usize) -> Vec<(String, InputValue)> {
    let decls = program.own_inputs();
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
struct Trained<E> {
    steps: Vec<Results<E>>,
    tensors: Vec<E>,
}

fn train<E: Compute>(
    program: &Program,
    ranks: Arc<dyn Ranks>,
    tensors: Vec<E>,
    inputs: &[(String, InputValue)],
) -> Trained<E> {
    let name = &program.spec.name;
    let backend = E::backend_with("cpu", &BackendOptions { ranks, ..BackendOptions::default() });
    let backend = backend.expect("every build has it");
    let session = backend.open(program, tensors).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut trainer = Trainer::new(program, session, Clock::new(1.0, STEPS));
    let step = |_| trainer.step(inputs).unwrap_or_else(|error| panic!("{name}: {error}")).results;
    let steps = (0..STEPS).map(step).collect();
    let tensors = trainer.tensors().expect("they are there").to_vec();
    Trained { steps, tensors }
}

/// All ranks of `program`, each on its rows of `inputs`; `change` makes twins that must fail.
fn spread<E: Compute>(program: &Program, tensors: &[E], inputs: &[(String, InputValue)]) -> Vec<Trained<E>> {
    let meeting = Meeting::new(program.ranks);
    std::thread::scope(|scope| {
        let rank = |rank: usize| {
            let meeting = meeting.clone();
            let (own, tensors) = (own_rows(program, inputs, rank), tensors.to_vec());
            scope.spawn(move || {
                let _leaving = Leaving(meeting.clone());
                let engine = Arc::new(Thread { rank, meeting });
                // Of its own: a rank that waits for others must not hold a thread that they need.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread can be had");
                pool.install(|| train(program, engine, tensors, &own))
            })
        };
        let threads: Vec<_> = (0..program.ranks).map(rank).collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank ends well")).collect()
    })
}

/// The largest difference of losses and monitors (of 1 or of their size), of gradients, states and weights (of their largest).
fn difference<E: Element>(a: &Trained<E>, b: &Trained<E>) -> f64 {
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
fn small(method: &Method) -> (Program, Vec<String>) {
    let mut sets = sets_of(&page(), method);
    sets.extend(
        ["data.batch_size=12", "train.optimizer=sgd(momentum: 0.9)", "train.learning_rate=0.05"].map(str::to_owned),
    );
    (compile(&method.pipeline, &sets), sets)
}

fn filled(program: &Program) -> Vec<(String, InputValue)> {
    batch(program)
}

fn agree<E: Compute>(method: &Method, ranks: usize, micro_batches: usize, tolerance: f64) {
    let (alone, sets) = small(method);
    let (tensors, inputs) = (start::<E>(&alone, &sets), filled(&alone));
    let mut spread_out = Program { ranks, ..alone.clone() };
    if micro_batches > 1 {
        spread_out.spec.train.micro_batch = MicroBatch::Of(12 / ranks / micro_batches);
    }
    let one = train(&alone, ranks::alone(), tensors.clone(), &inputs);
    let all = spread(&spread_out, &tensors, &inputs);
    for other in &all[1..] {
        assert!(other.tensors == all[0].tensors, "{}: {ranks} ranks have different weights", method.pipeline);
        for (first, step) in all[0].steps.iter().zip(&other.steps) {
            assert!(first.losses == step.losses && first.gradients == step.gradients, "{}", method.pipeline);
        }
    }
    assert!(one.tensors != tensors, "{} did not move", method.pipeline);
    let found = difference(&one, &all[0]);
    println!("{} on {ranks} ranks by {micro_batches}, {}: {found:.1e}", method.pipeline, E::NAME);
    assert!(found <= tolerance, "{} on {ranks} ranks: {found:e}", method.pipeline);
}

fn share(part: usize, parts: usize) {
    let page = page();
    let methods = page.methods.iter().filter(|method| !COUPLED.contains(&method.pipeline.as_str()));
    let mine = methods.skip(part).step_by(parts);
    let fails = |method: &&Method| {
        std::panic::catch_unwind(|| {
            for ranks in [2, 3, 4] {
                agree::<f64>(method, ranks, 1, 1e-12);
            }
            agree::<f64>(method, 2, 3, 1e-12);
            agree::<f32>(method, 2, 1, 1e-5);
        })
        .is_err()
    };
    let failed: Vec<&str> = mine.filter(fails).map(|method| method.pipeline.as_str()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_pipeline_is_the_same_on_several_ranks_first_half() {
    share(0, 2);
}

#[test]
fn every_pipeline_is_the_same_on_several_ranks_second_half() {
    share(1, 2);
}
