//! Forward and backward of a step in one function: the whole batch at once, or micro-batches in loops around the part where
//! samples meet.
//!
//! **Invariant:** gradients are added in the order in which they are made, as on the host: micro-batch by micro-batch, those of the
//! coupled part before them, or after them where micro-batches are run once. Of several ranks those of micro-batches come first, summed
//! over all; then every rank adds those of the coupled part, which are alike on all.

use std::collections::HashMap;

use super::super::lower::build::Order;
use super::super::lower::{Function, Scalar, TensorType, Value, Values, emit, tensor_type};
use crate::graph::accumulate::{Micro, Parts, gradient_of};
use crate::graph::step::{Body, Step};
use crate::graph::{Graph, Layout, ValueId};
use crate::op::{Op, Type};
use crate::plan::{PartRequests, Passes, PlanError, Request, passes};
use crate::spec::Scaling;

/// A step's graphs, made ready.
pub struct Flow {
    body: FlowBody,
    /// Names of what it gives beside losses, monitors and updates, in their order.
    outputs: Vec<String>,
}

enum FlowBody {
    Whole(Box<Passes>),
    Parts(Box<PartPasses>),
}

struct PartPasses {
    parts: Parts,
    /// Micro-batches of a step, on each of the ranks.
    count: usize,
    ranks: usize,
    /// Of a micro-batch: the way forward, or both ways where it is run once.
    forward: Passes,
    /// `None` where nothing joins samples.
    coupled: Option<Passes>,
    more: More,
}

/// What else is run for the gradients of joined values.
enum More {
    Nothing,
    /// Micro-batches once more, after the coupled part.
    Backward(Passes),
    /// What gives them beforehand.
    Known(Passes),
}

/// Values of a step in a function.
#[derive(Default)]
pub struct Made {
    pub losses: Vec<Value>,
    pub total: Option<Value>,
    pub monitors: Vec<Value>,
    pub updates: Vec<(String, Value)>,
    pub outputs: Vec<Value>,
    /// Of the trained tensors at which one arrives, by path.
    pub gradients: HashMap<String, Value>,
    /// Whether all ids that ops take are in their range; `None` where nothing can be out of it.
    pub ids_are_good: Option<Value>,
}

/// What a step's graphs read.
pub struct Leaves<'l> {
    pub params: &'l dyn Fn(&str) -> Option<Value>,
    /// The whole batch's.
    pub inputs: &'l HashMap<String, Value>,
    /// Of the inputs that come in bytes, by their names.
    pub scalings: &'l [(String, Scaling)],
}

impl Flow {
    /// For one of `ranks` ranks; `layout` is the program's; `request` is for the whole step.
    pub fn new(step: &Step, layout: &Layout, ranks: usize, request: &Request) -> Result<Self, PlanError> {
        let body = match &step.body {
            Body::Whole(graph) => FlowBody::Whole(Box::new(passes(graph, layout, request)?)),
            Body::Parts(parts, count) => {
                let requests = PartRequests::new(parts, request);
                let coupled = match parts.coupled.nodes.is_empty() {
                    true => None,
                    false => Some(passes(&parts.coupled, &parts.layout, &requests.coupled)?),
                };
                let more = match &parts.micro {
                    Micro::Twice { backward: Some(backward), .. } if request.gradients => {
                        More::Backward(passes(backward, layout, &requests.backward)?)
                    }
                    Micro::Twice { .. } => More::Nothing,
                    Micro::Once { known, .. } => More::Known(passes(known, layout, &requests.known)?),
                };
                FlowBody::Parts(Box::new(PartPasses {
                    forward: passes(parts.micro.forward(), layout, &requests.forward)?,
                    coupled,
                    more,
                    parts: (**parts).clone(),
                    count: *count,
                    ranks,
                }))
            }
        };
        Ok(Flow { body, outputs: step.outputs.clone() })
    }

    fn graphs(&self) -> Vec<&Graph> {
        match &self.body {
            FlowBody::Whole(whole) => vec![&whole.graph],
            FlowBody::Parts(parts) => {
                let more = match &parts.more {
                    More::Nothing => None,
                    More::Backward(passes) | More::Known(passes) => Some(passes),
                };
                let others = [parts.coupled.as_ref(), more].into_iter().flatten();
                [&parts.forward].into_iter().chain(others).map(|passes| &passes.graph).collect()
            }
        }
    }

    /// Whether any of the graphs reads the leaf.
    pub fn reads(&self, is_leaf: impl Fn(&Op) -> bool) -> bool {
        self.graphs().iter().any(|graph| graph.nodes.iter().any(|node| is_leaf(&node.op)))
    }

    /// Writes all of it; floats are `scalar`.
    pub fn emit(&self, f: &mut Function, scalar: Scalar, leaves: &Leaves<'_>) -> Made {
        match &self.body {
            FlowBody::Whole(whole) => {
                let mut input = |_: &mut Function, name: &str, _: &Type| leaves.inputs[name].clone();
                let mut values = bound(f, whole, scalar, leaves, leaves.params, &mut input);
                made(f, &mut values, &whole.graph)
            }
            FlowBody::Parts(parts) => parts.emit(f, scalar, leaves, &self.outputs),
        }
    }
}

/// Writes a graph whose leaves are `params` and `input`.
fn bound(
    f: &mut Function,
    passes: &Passes,
    scalar: Scalar,
    leaves: &Leaves<'_>,
    params: &dyn Fn(&str) -> Option<Value>,
    input: &mut dyn FnMut(&mut Function, &str, &Type) -> Value,
) -> Values {
    emit(f, passes, scalar, &mut |f, node| match &node.op {
        Op::Param { path } => params(path).expect("a graph reads tensors of its layout"),
        Op::Input { name } => {
            let value = input(f, name, &node.ty);
            match leaves.scalings.iter().find(|(scaled, _)| scaled == name) {
                Some((_, scaling)) => normalized(f, &value, scaling, scalar),
                None => value,
            }
        }
        _ => unreachable!("it is asked for leaves"),
    })
}

/// Pictures in bytes, `[B, C, H, W]`, as the graph takes them in: the loader's own formula, in f32 whatever the program's floats are.
/// A micro-batch's are made where it is read, so that the whole batch's lie there in bytes alone.
fn normalized(f: &mut Function, bytes: &Value, scaling: &Scaling, scalar: Scalar) -> Value {
    let values = f.convert(bytes, Scalar::F32);
    let of_channel = |f: &mut Function, numbers: &[f64]| {
        let table = f.table(numbers, &TensorType::new([numbers.len()], Scalar::F32));
        // Of one channel the table is a vector of one value all the same.
        f.broadcast(&table, bytes.shape(), &[1])
    };
    let most = f.constant(255.0, &values.ty);
    let shares = f.div(&values, &most);
    let (mean, std) = (of_channel(f, &scaling.mean), of_channel(f, &scaling.std));
    let centred = f.sub(&shares, &mean);
    let scaled = f.div(&centred, &std);
    f.convert(&scaled, scalar)
}

fn made(f: &mut Function, values: &mut Values, graph: &Graph) -> Made {
    let mut named = |of: &[(String, ValueId)]| -> Vec<(String, Value)> {
        of.iter().map(|(name, id)| (name.clone(), values.get(f, *id))).collect()
    };
    let alone = |named: Vec<(String, Value)>| named.into_iter().map(|(_, value)| value).collect();
    let (losses, monitors, outputs) =
        (alone(named(&graph.losses)), alone(named(&graph.monitors)), alone(named(&graph.outputs)));
    let (updates, gradients) = (named(&graph.updates), named(&graph.gradients).into_iter().collect());
    let total = graph.total.map(|id| values.get(f, id));
    Made { losses, total, monitors, updates, outputs, gradients, ids_are_good: good_ids(f, values) }
}

/// Whether all ids are in range.
fn good_ids(f: &mut Function, values: &Values) -> Option<Value> {
    let mut good = None;
    for check in &values.id_checks {
        let first = check.first_bad(f);
        let is_good = f.compare_to(&first, Order::Eq, 0.0);
        good = both(f, good, Some(is_good));
    }
    good
}

/// Two truths as one, where there are two.
pub(super) fn both(f: &mut Function, a: Option<Value>, b: Option<Value>) -> Option<Value> {
    match (a, b) {
        (Some(a), Some(b)) => Some(f.binary("and", &a, &b)),
        (one, other) => one.or(other),
    }
}

/// What all micro-batches give on their way forward.
struct Forward {
    /// Joined values, then outputs that keep samples apart, of the whole batch.
    whole: Vec<Value>,
    /// Sums by path, where micro-batches are run once.
    gradients: Vec<(String, Value)>,
    ids: Option<Value>,
}

impl PartPasses {
    fn emit(&self, f: &mut Function, scalar: Scalar, leaves: &Leaves<'_>, outputs: &[String]) -> Made {
        let parts = &self.parts;
        let (known, known_ids) = self.know(f, scalar, leaves);
        let Forward { whole, gradients, ids: forward_ids } = self.forward(f, scalar, leaves, &known);
        let (joined, apart) = whole.split_at(parts.joined.len());
        let joined: HashMap<&str, Value> =
            parts.joined.iter().map(|(name, _)| name.as_str()).zip(joined.iter().cloned()).collect();
        let mut all = self.couple(f, scalar, leaves, &joined);
        for (path, sum) in gradients {
            let sum = self.over_ranks(f, &sum, all.gradients.get(&path));
            all.gradients.insert(path, sum);
        }
        let mut coupled = std::mem::take(&mut all.outputs).into_iter();
        let mut apart = apart.iter().cloned();
        let is_apart = |name: &String| parts.apart.iter().any(|(apart, _)| apart == name);
        let output = |name| if is_apart(name) { apart.next() } else { coupled.next() };
        all.outputs = outputs.iter().map(output).map(|o| o.expect("one of the parts makes it")).collect();
        let backward_ids = match &self.more {
            More::Backward(backward) => self.backward(f, scalar, leaves, backward, &mut all.gradients),
            More::Nothing | More::Known(_) => None,
        };
        // Gradients of joined values are no gradients of the program's tensors.
        all.gradients.retain(|path, _| !joined.contains_key(path.as_str()));
        let ids = both(f, known_ids, forward_ids);
        let ids = both(f, ids, backward_ids);
        all.ids_are_good = both(f, all.ids_are_good.take(), ids);
        all
    }

    /// What the micro-batches of all ranks give to a gradient, `sum` on this one, and then the coupled part, if it does.
    fn over_ranks(&self, f: &mut Function, sum: &Value, coupled: Option<&Value>) -> Value {
        let sum = f.all_reduce(sum, self.ranks);
        match coupled {
            Some(own) => f.add(&sum, own),
            None => sum,
        }
    }

    /// The gradients of joined values that are known beforehand, by [`gradient_of`].
    fn know(&self, f: &mut Function, scalar: Scalar, leaves: &Leaves<'_>) -> (HashMap<String, Value>, Option<Value>) {
        let More::Known(known) = &self.more else { return Default::default() };
        let mut input = |_: &mut Function, name: &str, _: &Type| leaves.inputs[name].clone();
        let mut values = bound(f, known, scalar, leaves, leaves.params, &mut input);
        let outputs = &known.graph.outputs;
        let found = outputs.iter().map(|(name, id)| (name.clone(), values.get(f, *id))).collect();
        (found, good_ids(f, &values))
    }

    /// All micro-batches forward, with their gradients where `known` has those of the joined values.
    fn forward(
        &self,
        f: &mut Function,
        scalar: Scalar,
        leaves: &Leaves<'_>,
        known: &HashMap<String, Value>,
    ) -> Forward {
        let graph = &self.forward.graph;
        let types: Vec<TensorType> =
            self.parts.joined.iter().chain(&self.parts.apart).map(|(_, ty)| tensor_type(ty, scalar)).collect();
        // Flat: a micro-batch's block lies in one piece, whatever its axes are.
        let mut start: Vec<Value> =
            types.iter().map(|ty| f.constant(0.0, &TensorType::new([ty.elements()], ty.scalar))).collect();
        let zeros = graph.gradients.iter().map(|(_, id)| f.constant(0.0, &tensor_type(&graph.node(*id).ty, scalar)));
        start.extend(zeros.collect::<Vec<_>>());
        start.push(truth(f));
        let made = repeat(f, self.count, start, |f, micro, carried| {
            let mut input = |f: &mut Function, name: &str, ty: &Type| {
                let whole = known.get(name).unwrap_or_else(|| &leaves.inputs[name]);
                block(f, whole, &ty.shape, micro)
            };
            let mut values = bound(f, &self.forward, scalar, leaves, leaves.params, &mut input);
            let (whole, rest) = carried.split_at(graph.outputs.len());
            let (sums, ids) = rest.split_at(graph.gradients.len());
            let mut next: Vec<Value> = graph
                .outputs
                .iter()
                .zip(whole)
                .map(|((_, id), whole)| {
                    let block = values.get(f, *id);
                    put_block(f, whole, &block, micro)
                })
                .collect();
            next.extend(added(f, &mut values, graph, sums));
            let good = good_ids(f, &values);
            next.extend(both(f, ids.first().cloned(), good));
            next
        });
        let (whole, rest) = made.split_at(types.len());
        let (sums, ids) = rest.split_at(graph.gradients.len());
        let paths = graph.gradients.iter().map(|(path, _)| path.clone());
        Forward {
            whole: whole.iter().zip(&types).map(|(value, ty)| f.reshape(value, &ty.shape)).collect(),
            gradients: paths.zip(sums.iter().cloned()).collect(),
            ids: ids.first().cloned(),
        }
    }

    /// The part that sees the whole batch; its gradients are those of the program's tensors and of the joined values.
    fn couple(&self, f: &mut Function, scalar: Scalar, leaves: &Leaves<'_>, joined: &HashMap<&str, Value>) -> Made {
        let Some(coupled) = &self.coupled else { return Made::default() };
        let params = |path: &str| joined.get(path).cloned().or_else(|| (leaves.params)(path));
        let mut input = |_: &mut Function, name: &str, _: &Type| {
            joined.get(name).cloned().unwrap_or_else(|| leaves.inputs[name].clone())
        };
        let mut values = bound(f, coupled, scalar, leaves, &params, &mut input);
        made(f, &mut values, &coupled.graph)
    }

    /// Adds what each micro-batch gives to `gradients`, which are the coupled part's.
    fn backward(
        &self,
        f: &mut Function,
        scalar: Scalar,
        leaves: &Leaves<'_>,
        backward: &Passes,
        gradients: &mut HashMap<String, Value>,
    ) -> Option<Value> {
        let own = &self.parts.layout;
        // A joined value that the losses do not reach has none.
        let of_joined: HashMap<String, Value> = self
            .parts
            .joined
            .iter()
            .filter_map(|(name, ty)| {
                own.get(name)?;
                let gradient = match gradients.get(name) {
                    Some(gradient) => gradient.clone(),
                    None => f.constant(0.0, &tensor_type(ty, scalar)),
                };
                Some((gradient_of(name), gradient))
            })
            .collect();
        let graph = &backward.graph;
        let mut start: Vec<Value> = graph
            .gradients
            .iter()
            .map(|(path, id)| match gradients.get(path).filter(|_| self.ranks == 1) {
                Some(gradient) => gradient.clone(),
                None => f.constant(0.0, &tensor_type(&graph.node(*id).ty, scalar)),
            })
            .collect();
        start.push(truth(f));
        let made = repeat(f, self.count, start, |f, micro, carried| {
            let mut input = |f: &mut Function, name: &str, ty: &Type| {
                let whole = of_joined.get(name).unwrap_or_else(|| &leaves.inputs[name]);
                block(f, whole, &ty.shape, micro)
            };
            let mut values = bound(f, backward, scalar, leaves, leaves.params, &mut input);
            let (sums, ids) = carried.split_at(graph.gradients.len());
            let mut next = added(f, &mut values, graph, sums);
            let good = good_ids(f, &values);
            next.extend(both(f, ids.first().cloned(), good));
            next
        });
        let (sums, ids) = made.split_at(graph.gradients.len());
        for ((path, _), sum) in graph.gradients.iter().zip(sums) {
            let sum = match self.ranks {
                1 => sum.clone(),
                _ => self.over_ranks(f, sum, gradients.get(path)),
            };
            gradients.insert(path.clone(), sum);
        }
        ids.first().cloned()
    }
}

/// `sums` with the gradients of one micro-batch.
fn added(f: &mut Function, values: &mut Values, graph: &Graph, sums: &[Value]) -> Vec<Value> {
    let one = |((_, id), sum): (&(String, ValueId), &Value)| {
        let more = values.get(f, *id);
        f.add(sum, &more)
    };
    graph.gradients.iter().zip(sums).map(one).collect()
}

fn truth(f: &mut Function) -> Value {
    f.constant(1.0, &TensorType::new([], Scalar::I1))
}

/// Runs `body` on 0, 1, … below `count` and what it gave before; the first time on `start`.
fn repeat(
    f: &mut Function,
    count: usize,
    start: Vec<Value>,
    body: impl FnOnce(&mut Function, &Value, &[Value]) -> Vec<Value>,
) -> Vec<Value> {
    let zero = f.constant(0.0, &TensorType::new([], Scalar::I64));
    let initial: Vec<&Value> = [&zero].into_iter().chain(&start).collect();
    let goes_on = |f: &mut Function, values: &[Value]| f.compare_to(&values[0], Order::Lt, count as f64);
    let round = |f: &mut Function, values: &[Value]| {
        let next = body(f, &values[0], &values[1..]);
        [f.plus(&values[0], 1.0)].into_iter().chain(next).collect()
    };
    f.repeat(&initial, goes_on, round).split_off(1)
}

/// The block of micro-batch `micro` of what has one for each; all of what micro-batches share.
fn block(f: &mut Function, whole: &Value, shape: &[usize], micro: &Value) -> Value {
    if whole.shape() == shape {
        return whole.clone();
    }
    let len: usize = shape.iter().product();
    let flat = f.reshape(whole, &[whole.ty.elements()]);
    let start = f.times(micro, len as f64);
    let block = f.dynamic_slice(&flat, &[&start], &[len]);
    f.reshape(&block, shape)
}

/// `whole`, a flat value, with the block of micro-batch `micro` put in.
fn put_block(f: &mut Function, whole: &Value, block: &Value, micro: &Value) -> Value {
    let len = block.ty.elements();
    let (flat, start) = (f.reshape(block, &[len]), f.times(micro, len as f64));
    f.dynamic_update(whole, &flat, &[&start])
}
