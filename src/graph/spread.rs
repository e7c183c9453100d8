//! Data parallel training: a step cut into parts, put together again for one of several ranks.
//!
//! A batch is spread over ranks as [`accumulate`](super::accumulate) spreads it over time. What keeps samples apart sees a rank's own
//! rows; the values that are joined are gathered from all ranks; what joins samples sees the whole batch, on each rank alike. The way
//! back is the same: of the gradients of what was gathered a rank takes its own rows, and what its rows give to the gradients of
//! parameters is summed over all ranks. So the step is that of one machine with the same batch, whatever the losses are. A sum over
//! joined rows, such as a centre's, is that of each rank's sums: no rank needs the rows of others for it.
//!
//! ```text
//! own rows ─▶ apart ─▶ all_gather ─▶ joined, the whole batch ─▶ losses, updates
//!               ▲                        ▲
//!           replicate(param)           param      gradients: all_reduce to the left, alike on all ranks to the right
//! ```
//! Before: [`accumulate::split`](super::accumulate::split). After: each rank runs the same graph on rows of its own; the backend
//! exchanges what [`Op::AllGather`] and [`Op::AllReduce`] say.
//!
//! **Invariant:** what a rank reads of others passes through these two ops, in the same order on all ranks, and every result (losses,
//! monitors, updates, outputs, gradients) is the same on all of them.

use std::collections::HashMap;

use super::accumulate::{Micro, Parts};
use super::{Fault, Graph, Init, InputDecl, InputKind, Layout, Node, TensorDecl, TensorKind, ValueId, prune, verify};
use crate::op::{DType, Op, Type};
use crate::spec::Role;

/// The whole step of one of `ranks` ranks, each with one of the blocks that `parts` cuts a batch of `samples` into. `outputs` are
/// named in their order.
pub fn whole(parts: &Parts, layout: &Layout, outputs: &[String], samples: usize, ranks: usize) -> Result<Graph, Fault> {
    let forward = prune::prune(&Graph { total: None, ..parts.micro.forward().clone() });
    let mut spread = Spread::new(ranks, samples);
    let own = spread.put(&forward, |spread, node| match &node.op {
        Op::Param { path } if is_trained(layout, path) => {
            let param = spread.graph.push(node.clone());
            Some(spread.graph.push(Node { op: Op::Replicate { ranks }, inputs: vec![param], ..node.clone() }))
        }
        _ => None,
    });
    let mut gather = |list: &'_ [(String, Type)], made: &[(String, ValueId)]| -> HashMap<String, ValueId> {
        let one = |((name, whole), (_, id)): (&(String, Type), &(String, ValueId))| {
            (name.clone(), spread.gathered(own[id.index()], whole))
        };
        list.iter().zip(made).map(one).collect()
    };
    // Apart from one another: an output may have the name of a tensor.
    let (of_joined, of_apart) = forward.outputs.split_at(parts.joined.len());
    let joined = gather(&parts.joined, of_joined);
    let given = gather(&parts.apart, of_apart);
    let all = spread.put(&parts.coupled, |spread, node| match &node.op {
        Op::Param { path: name } | Op::Input { name } => match joined.get(name) {
            Some(id) => Some(*id),
            None => spread.whole_input(node, &parts.coupled),
        },
        _ => None,
    });
    let new = |id: &ValueId| all[id.index()];
    let named = |list: &[(String, ValueId)]| list.iter().map(|(name, id)| (name.clone(), new(id))).collect();
    let output = |name: &String| {
        let coupled = parts.coupled.output(name).map(|id| new(&id));
        let id = coupled.or_else(|| given.get(name).copied());
        (name.clone(), id.expect("one of the parts makes it"))
    };
    let graph = Graph {
        losses: named(&parts.coupled.losses),
        monitors: named(&parts.coupled.monitors),
        updates: named(&parts.coupled.updates),
        total: parts.coupled.total.as_ref().map(new),
        outputs: outputs.iter().map(output).collect(),
        ..spread.graph
    };
    let graph = prune::prune(&graph);
    verify::passed("spreading", &graph, layout)?;
    Ok(graph)
}

/// The parts of a step of one of `ranks` ranks, which has several of the blocks that `parts` cuts a batch of `samples` into. Joined
/// values are a rank's own rows, to be filled by its micro-batches; what these give to the gradients of parameters is to be summed
/// over the ranks once the last has been run.
pub fn parts(parts: &Parts, layout: &Layout, samples: usize, ranks: usize) -> Result<Parts, Fault> {
    // Who asks for a value of the whole batch gets it on each rank.
    let given: Vec<(String, Type)> = parts.apart.iter().map(|(name, ty)| (format!("%{name}"), ty.clone())).collect();
    let joined = [parts.joined.as_slice(), &given].concat();
    let mut coupled = parts.coupled.clone();
    let mut tensors = parts.layout.tensors.clone();
    for ((path, ty), (name, _)) in given.iter().zip(&parts.apart) {
        let op = if ty.dtype == DType::Int {
            coupled.inputs.push(InputDecl { name: path.clone(), kind: InputKind::Joined, ty: ty.clone() });
            Op::Input { name: path.clone() }
        } else {
            let (shape, role, kind) = (ty.shape.clone(), Role::Weight, TensorKind::Fixed);
            tensors.push(TensorDecl { path: path.clone(), shape, role, kind, init: Init::Zeros });
            Op::Param { path: path.clone() }
        };
        let value = coupled.push(Node { op, inputs: Vec::new(), ty: ty.clone(), scope: String::new() });
        coupled.outputs.push((name.clone(), value));
    }
    for decl in &mut tensors {
        if let Some((_, ty)) = joined.iter().find(|(name, _)| *name == decl.path) {
            decl.shape = own(ty, ranks).shape;
        }
    }
    let own_layout = Layout::new(tensors);
    let coupled = on_own_rows(&coupled, &joined, samples, ranks);
    verify::passed("spreading", &coupled, &own_layout)?;
    let micro = match &parts.micro {
        Micro::Twice { .. } => parts.micro.clone(),
        Micro::Once { known, both } => {
            let mut known = on_own_rows(known, &parts.joined, samples, ranks);
            for index in 0..known.outputs.len() {
                let id = known.outputs[index].1;
                let Node { ty, scope, .. } = known.node(id).clone();
                let op = Op::OwnRows { axis: rows_of(&ty), ranks };
                known.outputs[index].1 = known.push(Node { op, inputs: vec![id], ty: own(&ty, ranks), scope });
            }
            verify::passed("spreading", &known, layout)?;
            Micro::Once { known, both: both.clone() }
        }
    };
    let joined = joined.into_iter().map(|(name, ty)| (name, own(&ty, ranks))).collect();
    Ok(Parts { micro, coupled, layout: own_layout, joined, apart: Vec::new() })
}

/// The training graph's inputs as `count` of `ranks` ranks take them in together: rows of their own samples, and what is the same for
/// all.
pub fn inputs(inputs: &[InputDecl], samples: usize, (count, ranks): (usize, usize)) -> Vec<InputDecl> {
    inputs.iter().map(|decl| decl.of_rows(samples, samples / ranks * count)).collect()
}

/// The axis along which a value that keeps samples apart has them: all before it are 1, and a batch that is spread has two samples
/// or more.
fn rows_of(whole: &Type) -> usize {
    whole.shape.iter().position(|size| *size != 1).unwrap_or(0)
}

/// The type of a rank's own rows.
fn own(whole: &Type, ranks: usize) -> Type {
    let mut ty = whole.clone();
    ty.shape[rows_of(whole)] /= ranks;
    ty
}

/// `graph`, which takes the whole batch, on a rank that has its own rows: they are gathered first.
fn on_own_rows(graph: &Graph, joined: &[(String, Type)], samples: usize, ranks: usize) -> Graph {
    let mut spread = Spread::new(ranks, samples);
    let all = spread.put(graph, |spread, node| match &node.op {
        Op::Param { path: name } | Op::Input { name } => match joined.iter().find(|(joined, _)| joined == name) {
            Some((name, ty)) => {
                let own = spread.own_leaf(node, ty);
                if matches!(node.op, Op::Input { .. }) {
                    let ty = spread.graph.node(own).ty.clone();
                    spread.declare(&InputDecl { name: name.clone(), kind: InputKind::Joined, ty });
                }
                Some(spread.gathered(own, ty))
            }
            None => spread.whole_input(node, graph),
        },
        _ => None,
    });
    let mut made = Graph { nodes: Vec::new(), inputs: Vec::new(), ..graph.clone() };
    made.results_mut().for_each(|id| *id = all[id.index()]);
    Graph { nodes: spread.graph.nodes, inputs: spread.graph.inputs, ..made }
}

fn is_trained(layout: &Layout, path: &str) -> bool {
    layout.get(path).is_some_and(|(decl, _)| decl.kind == TensorKind::Trained)
}

/// A rank's graph as it grows.
struct Spread {
    graph: Graph,
    ranks: usize,
    /// Of the whole batch.
    samples: usize,
}

impl Spread {
    fn new(ranks: usize, samples: usize) -> Self {
        Spread { graph: Graph::default(), ranks, samples }
    }

    /// Adds the nodes of `from` with their inputs, but for those in whose place `other` gives a value. Gives where each is.
    fn put(&mut self, from: &Graph, other: impl Fn(&mut Self, &Node) -> Option<ValueId>) -> Vec<ValueId> {
        let mut new: Vec<ValueId> = Vec::with_capacity(from.nodes.len());
        for node in &from.nodes {
            let id = other(self, node).unwrap_or_else(|| {
                if let Op::Input { name } = &node.op
                    && let Some(decl) = from.inputs.iter().find(|decl| decl.name == *name)
                {
                    self.declare(decl);
                }
                let inputs: Vec<ValueId> = node.inputs.iter().map(|id| new[id.index()]).collect();
                self.summed(node, &inputs).unwrap_or_else(|| self.graph.push(Node { inputs, ..node.clone() }))
            });
            new.push(id);
        }
        new
    }

    /// A sum or a mean over rows that were gathered, by what each rank has of it: it is smaller than they are.
    fn summed(&mut self, node: &Node, inputs: &[ValueId]) -> Option<ValueId> {
        let (Op::Sum { axes, .. } | Op::Mean { axes, .. }) = &node.op else { return None };
        let rows = self.graph.node(*inputs.first()?);
        let Op::AllGather { axis, .. } = &rows.op else { return None };
        if !axes.contains(axis) {
            return None;
        }
        let (own, ranks) = (rows.inputs.clone(), self.ranks);
        let part = self.graph.push(Node { inputs: own, ..node.clone() });
        let sum = self.graph.push(Node { op: Op::AllReduce { ranks }, inputs: vec![part], ..node.clone() });
        Some(match node.op {
            Op::Mean { .. } => {
                let op = Op::MulConst { value: 1.0 / ranks as f64 };
                self.graph.push(Node { op, inputs: vec![sum], ..node.clone() })
            }
            _ => sum,
        })
    }

    fn declare(&mut self, decl: &InputDecl) {
        if self.graph.inputs.iter().all(|declared| declared.name != decl.name) {
            self.graph.inputs.push(decl.clone());
        }
    }

    /// An input that has rows of each sample, gathered from all ranks; `None` for others, which are the same on all of them.
    fn whole_input(&mut self, node: &Node, from: &Graph) -> Option<ValueId> {
        let Op::Input { name } = &node.op else { return None };
        let decl = from.inputs.iter().find(|decl| decl.name == *name)?;
        if !decl.has_rows(self.samples) {
            return None;
        }
        let own = self.own_leaf(node, &decl.ty);
        let ty = self.graph.node(own).ty.clone();
        self.declare(&InputDecl { ty, ..decl.clone() });
        Some(self.gathered(own, &node.ty))
    }

    /// A rank's own rows of a leaf that is of type `whole` in the whole batch.
    fn own_leaf(&mut self, node: &Node, whole: &Type) -> ValueId {
        self.graph.push(Node { ty: own(whole, self.ranks), ..node.clone() })
    }

    /// All ranks' rows of `own`, of type `whole`.
    fn gathered(&mut self, own: ValueId, whole: &Type) -> ValueId {
        let scope = self.graph.node(own).scope.clone();
        let op = Op::AllGather { axis: rows_of(whole), ranks: self.ranks };
        self.graph.push(Node { op, inputs: vec![own], ty: whole.clone(), scope })
    }
}
