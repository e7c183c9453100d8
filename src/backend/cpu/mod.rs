//! The `cpu` backend: one static step, planned once.
//!
//! The first run of a graph differentiates it if gradients are asked for, plans it, and takes its arenas; runs after it only
//! compute. f32, and f64 for the oracle's sake.
//!
//! **Invariant:** results do not depend on the number of threads, bit for bit: see [`share`] and [`product`].
//!
//! **Invariant:** unsafe are [`memory`], where a step's places are found in one arena, [`attention`], whose heads are written by
//! several threads, [`product`], [`stored`], where floats are room for numbers of bf16, [`aligned`], which gives the system advice, and
//! the calls that [`crate::wide`] makes, and nothing else. What they rely on of a plan,
//! [`plan::verify`] has checked before it is run.

mod aligned;
mod attention;
mod awake;
mod chain;
mod conv;
mod elementary;
mod factor;
mod ids;
mod memory;
mod moves;
mod norm;
mod peak;
mod product;
mod real;
mod reduce;
mod rows;
mod scratch;
mod share;
mod step;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use product::{inner_products, product};
pub use real::Real;

use super::host::HostSession;
use super::host::footprint::footprint;
use super::{Backend, BackendError, Footprint, Request, Results, Session};
use crate::graph::{Graph, Layout, Node, Program, TensorDecl, ValueId};
use crate::op::{DType, Op};
use crate::plan::{self, Plan, Space, Step, Target, Work};
use crate::ranks::Ranks;
use crate::tensor::{Filling, HostTensor, Inputs, OutputValue, Values, ValuesMut};
use awake::awake;
use memory::{Arenas, Memory, Sizes, Views};
use step::Prepared;

/// Graphs that are kept planned: training, which is three where micro-batches are accumulated, evaluation, pictures, and two
/// for what else is looked at.
const PLANS: usize = 7;

/// Values that are summed over ranks, or sent to them, at once: large enough that an engine's own pipelines are filled.
const SUMMED: usize = 1 << 22;

/// Runs graphs on the CPU.
///
/// All plans share the same arenas: what a plan leaves there, only values that no input changes, is made anew after another
/// has run.
pub struct Cpu<E> {
    /// The one used last comes last.
    planned: Vec<Planned>,
    arenas: Arenas<E>,
    /// Number of the plan whose values that no input changes are in the arenas.
    constants_of: Option<u64>,
    /// Plans made so far.
    made: u64,
    /// Time by kind of step, where somebody asks.
    times: Option<BTreeMap<String, Duration>>,
    ranks: Arc<dyn Ranks>,
    /// What is sent while its place takes the sum.
    sent: Vec<E>,
}

/// As one of `ranks`.
pub fn cpu<E: Real>(ranks: Arc<dyn Ranks>) -> Box<dyn Backend<E>> {
    Box::new(Cpu::<E> {
        ranks,
        sent: Vec::new(),
        planned: Vec::new(),
        arenas: Arenas::empty(),
        constants_of: None,
        made: 0,
        times: None,
    })
}

/// A plan, and what it was made for.
struct Planned {
    number: u64,
    graph: Graph,
    tensors: Vec<TensorDecl>,
    request: Request,
    plan: Plan,
    prepared: Vec<Prepared>,
}

/// What this backend's kernels take: what its plans are made for.
pub const TARGET: Target = Target {
    // 64 bytes of f32: places begin at the start of a cache line and of the widest vector.
    alignment: 16,
    chains: chain::LIMITS,
    scratch: step::scratch,
};

impl<E: Real> Cpu<E> {
    /// Puts the plan for a run last.
    fn find(&mut self, graph: &Graph, layout: &Layout, request: &Request) -> Result<(), BackendError> {
        // Compared as a whole: it takes some microseconds, and no name or address could be trusted instead.
        let fits = |p: &Planned| p.request == *request && p.graph == *graph && p.tensors == layout.tensors;
        if let Some(at) = self.planned.iter().position(fits) {
            self.planned[at..].rotate_left(1);
            // The arenas are gone after one was planned that they could not be made large enough for.
            let plan = &self.planned[self.planned.len() - 1].plan;
            return make_room(plan, &mut self.arenas, &mut self.constants_of);
        }
        let plan = lowered::<E>(graph, layout, request)?;
        make_room(&plan, &mut self.arenas, &mut self.constants_of)?;
        if self.planned.len() == PLANS {
            self.planned.remove(0);
        }
        self.made += 1;
        self.planned.push(Planned {
            number: self.made,
            graph: graph.clone(),
            tensors: layout.tensors.clone(),
            request: request.clone(),
            prepared: plan.steps.iter().map(|step| step::prepare(&plan.graph, step)).collect(),
            plan,
        });
        Ok(())
    }
}

/// Arenas that are large enough for `plan` too. An error where the system has less memory than they and its threads take: once
/// a step is under way, what cannot be had ends the process.
fn make_room<E: Real>(plan: &Plan, arenas: &mut Arenas<E>, constants_of: &mut Option<u64>) -> Result<(), BackendError> {
    let (there, needed) = (arenas.sizes(), Sizes::of(plan));
    let sizes = there.or_more(needed);
    if sizes == there {
        return Ok(());
    }
    // Nothing in them is needed any more, and there may be no memory for old and new ones at once.
    (*arenas, *constants_of) = (Arenas::empty(), None);
    let bytes = bytes::<E>(plan, sizes);
    // Asked for at once, and given back: a system that promises more than it has does so for each part alone.
    if Vec::<u8>::new().try_reserve_exact(bytes).is_err() {
        return Err(BackendError::Memory { needed: format!("{:.1} GB", bytes as f64 / 1e9) });
    }
    *arenas = Arenas::new(sizes);
    Ok(())
}

/// Bytes of arenas, and of what the threads work in as they run `plan`.
fn bytes<E: Real>(plan: &Plan, arenas: Sizes) -> usize {
    let room = plan.steps.iter().map(|step| step::room(&plan.graph, step)).max().unwrap_or(0);
    let rooms = room.saturating_mul(rayon::current_num_threads()).saturating_mul(size_of::<E>());
    arenas.bytes::<E>().saturating_add(rooms)
}

/// The plan of a run in this precision, of which f64 rounds nothing.
fn lowered<E: Real>(graph: &Graph, layout: &Layout, request: &Request) -> Result<Plan, plan::PlanError> {
    let request = Request { bf16: request.bf16 && E::ROUNDS, ..request.clone() };
    plan::lower(graph, layout, &request, &TARGET)
}

impl<E: Real> Backend<E> for Cpu<E> {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn open<'p>(
        self: Box<Self>,
        program: &'p Program,
        tensors: Vec<E>,
    ) -> Result<Box<dyn Session<E> + 'p>, BackendError> {
        Ok(Box::new(HostSession::new(self, program, tensors)))
    }

    fn prepare(&mut self, graph: &Graph, layout: &Layout, request: &Request) -> Result<(), BackendError> {
        self.find(graph, layout, request)
    }

    fn footprint(&mut self, program: &Program) -> Result<Option<Footprint>, BackendError> {
        let values = |graph: &Graph, layout: &Layout, request: &Request| {
            let plan = lowered::<E>(graph, layout, request)?;
            Ok(bytes::<E>(&plan, Sizes::of(&plan)))
        };
        footprint::<E>(program, values).map(Some)
    }

    fn rank(&self) -> usize {
        self.ranks.rank()
    }

    fn sum_over_ranks(&mut self, values: &mut [E]) {
        if self.ranks.count() == 1 {
            return;
        }
        // By pieces: another arena of gradients would be a quarter of what a run stores.
        for values in values.chunks_mut(SUMMED) {
            self.sent.clear();
            self.sent.extend_from_slice(values);
            self.ranks.all_reduce(E::values(&self.sent), E::values_mut(values));
        }
    }

    fn copy_of_rank(&mut self, from: usize, values: &mut [E]) {
        values.chunks_mut(SUMMED).for_each(|values| self.ranks.broadcast(from, E::values_mut(values)));
    }

    fn start_timing(&mut self) {
        self.times = Some(BTreeMap::new());
    }

    fn take_times(&mut self) -> BTreeMap<String, Duration> {
        self.times.take().unwrap_or_default()
    }

    fn product_rate(&self, bf16: bool) -> Option<f64> {
        Some(peak::product_rate::<E>(bf16))
    }

    fn multiplies_bf16(&self) -> bool {
        product::multiplies_bf16()
    }

    fn run_into(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        arena: &[E],
        inputs: Inputs<'_>,
        request: &Request,
        results: &mut Results<E>,
    ) -> Result<(), BackendError> {
        // Among rayon's threads from here on: a step has hundreds of parallel loops, and each that is started from outside
        // has to wake one up, and wait.
        awake(|| self.run_within(graph, layout, arena, inputs, request, results))
    }
}

impl<E: Real> Cpu<E> {
    fn run_within(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        arena: &[E],
        inputs: Inputs<'_>,
        request: &Request,
        results: &mut Results<E>,
    ) -> Result<(), BackendError> {
        self.find(graph, layout, request)?;
        let planned = self.planned.last().expect("`find` has put it there");
        let has_constants = self.constants_of == Some(planned.number);
        // Until the run has come to its end, they are nobody's.
        self.constants_of = None;
        let Results { losses, total, monitors, updates, outputs, gradients } = results;
        gradients.resize(if request.gradients { layout.trained_len } else { 0 }, E::ZERO);
        let mut memory = Memory::new(arena, gradients, &mut self.arenas);
        let plan = &planned.plan;
        let mut copies = plan.copies.iter().peekable();
        for (at, (step, prepared)) in plan.steps.iter().zip(&planned.prepared).enumerate() {
            if step.once && has_constants {
                continue;
            }
            let node = plan.graph.node(step.node);
            let place = |message: String| BackendError::Op { op: node.op.name(), scope: node.scope.clone(), message };
            let views = memory.views(step);
            let start = self.times.is_some().then(Instant::now);
            match &node.op {
                Op::Input { name } => fill(views.out, views.out_ids, node, name, inputs)?,
                Op::AllGather { ranks, .. } | Op::OwnRows { ranks, .. } | Op::AllReduce { ranks } => {
                    exchange(&*self.ranks, *ranks, &node.op, views).map_err(place)?;
                }
                _ => step::run(&plan.graph, step, prepared, views).map_err(place)?,
            }
            if let (Some(start), Some(times)) = (start, &mut self.times) {
                *times.entry(kind(&plan.graph, step)).or_default() += start.elapsed();
            }
            if request.check_finite
                && step.writes.space != Space::Ints
                && let Some(bad) = memory.numbers(step.writes).first_not_finite()
            {
                return Err(place(format!("the first value that is not finite ({bad})")));
            }
            while let Some(copied) = copies.next_if(|copied| copied.after <= at) {
                memory.copy(copied.from, copied.to);
            }
        }
        if !has_constants {
            E::share_scratch();
        }
        self.constants_of = Some(planned.number);
        if request.gradients {
            copies.for_each(|copied| memory.copy(copied.from, copied.to));
            plan.zeros.iter().for_each(|place| memory.fill(*place, E::ZERO));
        }
        let graph = &plan.graph;
        let place = |id: ValueId| plan.places[id.index()].expect("the plan is verified: results keep their place");
        let scalar = |id: ValueId| memory.floats(place(id))[0].to_f64();
        let scalars = |of: &[(String, ValueId)], values: &mut Vec<f64>| {
            values.clear();
            values.extend(of.iter().map(|(_, id)| scalar(*id)));
        };
        scalars(&graph.losses, losses);
        scalars(&graph.monitors, monitors);
        *total = graph.total.map_or(0.0, scalar);
        updates.resize(graph.updates.len(), Vec::new());
        for (values, (_, id)) in updates.iter_mut().zip(&graph.updates) {
            values.clear();
            values.extend_from_slice(memory.floats(place(*id)));
        }
        outputs.clear();
        outputs.extend(graph.outputs.iter().map(|(_, id)| {
            let ty = &graph.node(*id).ty;
            let shape = ty.shape.clone();
            match ty.dtype {
                DType::Float => OutputValue::Float(HostTensor { shape, data: memory.floats(place(*id)).to_vec() }),
                DType::Int => OutputValue::Int(HostTensor { shape, data: memory.ids(place(*id)).to_vec() }),
            }
        }));
        Ok(())
    }
}

/// What ranks exchange, or a rank's own part of what all have.
fn exchange<E: Real>(engine: &dyn Ranks, ranks: usize, op: &Op, views: Views<E>) -> Result<(), String> {
    if ranks != engine.count() {
        return Err(format!("it is for {ranks} ranks, the engine has {}", engine.count()));
    }
    match op {
        Op::AllGather { .. } if views.is_ids(0) => {
            engine.all_gather(Values::I64(views.ids(0)), ValuesMut::I64(views.out_ids));
        }
        Op::AllGather { .. } => engine.all_gather(E::values(views.read(0)), E::values_mut(views.out)),
        Op::AllReduce { .. } => engine.all_reduce(E::values(views.read(0)), E::values_mut(views.out)),
        // The first axis that is not 1: rows lie behind one another.
        _ => {
            let at = engine.rank() * views.out.len();
            views.out.copy_from_slice(&views.read(0)[at..at + views.out.len()]);
        }
    }
    Ok(())
}

/// The name that a step's time is counted under: its op's. Element-wise chains that hold a GELU, which costs more than all
/// else in them, go by its name.
fn kind(graph: &Graph, step: &Step) -> String {
    match &step.work {
        Work::Op | Work::Product { .. } | Work::Attention { .. } => graph.node(step.kernel()).op.name().to_owned(),
        Work::Chain(chain) => match chain.ops().find(|op| matches!(op, Op::Gelu | Op::GeluGrad)) {
            Some(gelu) => gelu.name().to_owned(),
            None => "element-wise".to_owned(),
        },
    }
}

/// Copies an input of the batch to its place.
fn fill<E: Real>(
    floats: &mut [E],
    ids: &mut [i64],
    node: &Node,
    name: &str,
    inputs: Inputs<'_>,
) -> Result<(), BackendError> {
    match inputs.filling(name, &node.ty)? {
        Filling::Float(values) => {
            floats.iter_mut().zip(values).for_each(|(to, from)| *to = E::from_f64(f64::from(*from)));
        }
        Filling::Double(values) => floats.iter_mut().zip(values).for_each(|(to, from)| *to = E::from_f64(*from)),
        Filling::Int(values) => ids.copy_from_slice(values),
        Filling::Levels(levels) => levels.write(floats),
    }
    Ok(())
}
