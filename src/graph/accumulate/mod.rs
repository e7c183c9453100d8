//! Gradient accumulation: a training graph cut where samples meet.
//!
//! A batch that does not fit is computed by micro-batches. What keeps samples apart, as encoders do, sees one micro-batch
//! at a time; what joins them (batch norm, InfoNCE, a centre, a mean) sees the whole batch. The step is therefore that of
//! the large batch, and no approximation of it. [`split`] makes a graph for each part:
//!
//! ```text
//! forward    each micro-batch, no gradients  → the values that are joined, kept for the whole batch
//! coupled    the whole batch                 → losses, updates, gradients of its own parameters and of those values
//! backward   each micro-batch once more      → from those gradients, the gradients of the parameters before
//! ```
//! Where the gradients of the joined values hang on none of them, as those of a mean over samples do, they are known beforehand, and a
//! micro-batch is run once: `known` makes them, then each micro-batch goes forward and backward, then comes `coupled`.
//!
//! Before: `build`. After: `train` runs the parts; their gradients of a parameter are added.
//!
//! **Invariant:** a value of a micro-batch is a block of the same value of the whole batch: [`rows`] says which ops make
//! such values, and along which axis; constants such as 1 / B stay those of the whole batch.
//!
//! Source: Gao et al. 2021 (GradCache), for contrastive losses; here for whatever joins samples.

mod known;
mod micro;
mod rows;

use std::fmt;

use self::micro::Made;
use super::{Fault, Graph, InputDecl, InputKind, Layout, Node, TensorDecl, TensorKind, ValueId, prune, verify};
use crate::decl::Init;
use crate::op::{DType, Op, Type};
use crate::spec::Role;

/// A step cut into parts. Paths and input names that begin with `%` are values of a part, which no pipeline can name.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    pub micro: Micro,
    /// On the whole batch. Joined values are tensors of `layout`, ids among them inputs.
    pub coupled: Graph,
    /// What `coupled` reads and writes: tensors of the program by their paths, joined values by theirs. A trained one is a
    /// value that a gradient flows through.
    pub layout: Layout,
    /// Joined values by name, with their types in the whole batch.
    pub joined: Vec<(String, Type)>,
    /// Those of the graph's outputs that keep samples apart; all others are outputs of `coupled`.
    pub apart: Vec<(String, Type)>,
}

/// How micro-batches are run. All graphs are on the program's arena; outputs of the one that goes forward: `joined`, then `apart`.
/// Inputs of the one that goes backward, beside the batch's: the gradients of joined values, by [`gradient_of`].
#[derive(Debug, Clone, PartialEq)]
pub enum Micro {
    /// Forward, and after the whole batch's part backward, which makes all values once more; `None` where no gradient passes the cut.
    Twice { forward: Graph, backward: Option<Graph> },
    /// Both ways at once, since `known` gives the gradients of all joined values beforehand, as outputs by their names.
    Once { known: Graph, both: Graph },
}

impl Micro {
    /// The graph that goes forward.
    pub fn forward(&self) -> &Graph {
        match self {
            Micro::Twice { forward, .. } => forward,
            Micro::Once { both, .. } => both,
        }
    }

    /// The graph that goes backward.
    pub fn backward(&self) -> Option<&Graph> {
        match self {
            Micro::Twice { backward, .. } => backward.as_ref(),
            Micro::Once { both, .. } => Some(both),
        }
    }
}

/// Samples are joined where nothing may join them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupling {
    /// The op that joins samples, and where it stands.
    pub op: &'static str,
    pub scope: String,
    /// The attention or convolution that depends on it.
    pub encoder_op: &'static str,
    pub encoder_scope: String,
}

/// Why a graph cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("{0}")]
    Coupled(Coupling),
    #[error(transparent)]
    Fault(Fault),
}

impl fmt::Display for Coupling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Coupling { op, scope, encoder_op, encoder_scope } = self;
        write!(
            f,
            "`{encoder_op}` at `{encoder_scope}` comes after `{op}` at `{scope}`, which joins the samples of a batch"
        )
    }
}

/// The name of the gradient of joined value `name`.
pub fn gradient_of(name: &str) -> String {
    format!("{name}.gradient")
}

/// What a value hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// No sample.
    Shared,
    /// Each block along that axis hangs on its own sample.
    Apart(usize),
    /// Samples are joined, first by this node.
    Joined(ValueId),
}

/// A graph whose reductions over samples and other axes are cut in two, with the class of each value.
struct Sorted {
    graph: Graph,
    classes: Vec<Class>,
    /// Of values that hang on no sample: the axes along which they are made of like blocks for each, so that a micro-batch can
    /// have its part of them.
    alike: Vec<Vec<usize>>,
    samples: usize,
}

/// Cuts a training graph for batches of `samples` that come as `count` micro-batches.
///
/// First values of states are no part of a step: who wants them names them as outputs.
pub fn split(graph: &Graph, layout: &Layout, samples: usize, count: usize) -> Result<Parts, SplitError> {
    let sorted = sort(graph, samples);
    sorted.check_encoders().map_err(SplitError::Coupled)?;
    let cut = sorted.cut();
    let (coupled, coupled_layout) = sorted.coupled(&cut, layout);
    let joined: Vec<(String, ValueId)> = cut.joined.iter().map(|id| (name_of(*id), *id)).collect();
    let is_apart = |(_, id): &&(String, ValueId)| sorted.is_by_blocks(*id);
    let apart: Vec<(String, ValueId)> = sorted.graph.outputs.iter().filter(is_apart).cloned().collect();
    let trained = |(name, _): &&(String, ValueId)| {
        coupled_layout.get(name).is_some_and(|(decl, _)| decl.kind == TensorKind::Trained)
    };
    let with_gradient: Vec<(String, ValueId)> = joined.iter().filter(trained).cloned().collect();
    let types = |list: &[(String, ValueId)]| -> Vec<(String, Type)> {
        list.iter().map(|(name, id)| (name.clone(), sorted.graph.node(*id).ty.clone())).collect()
    };
    let outputs = [joined.as_slice(), apart.as_slice()].concat();
    let known = sorted.known(&coupled, &coupled_layout, &with_gradient).map_err(SplitError::Fault)?;
    let micro = match known {
        Some(known) => Micro::Once { known, both: sorted.both(&with_gradient, &outputs, count) },
        None => Micro::Twice {
            forward: sorted.forward(&outputs, count),
            backward: (!with_gradient.is_empty()).then(|| sorted.backward(&with_gradient, count)),
        },
    };
    let parts = Parts { micro, joined: types(&joined), apart: types(&apart), coupled, layout: coupled_layout };
    let micro: Vec<&Graph> = match &parts.micro {
        Micro::Twice { forward, backward } => [forward].into_iter().chain(backward).collect(),
        Micro::Once { known, both } => vec![known, both],
    };
    let micro = micro.into_iter().map(|graph| (graph, layout));
    for (graph, layout) in micro.chain([(&parts.coupled, &parts.layout)]) {
        verify::passed("accumulation", graph, layout).map_err(SplitError::Fault)?;
    }
    Ok(parts)
}

/// A graph of one output that keeps samples apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Apart {
    pub graph: Graph,
    /// Of each value, the axis along which it holds the samples, a like number of rows for each; `None` where it is the same for all.
    pub axes: Vec<Option<usize>>,
}

/// The graph that makes the output `name` of `graph`, whose batches are of `samples`, with the axis of the samples in each of its values:
/// the same graph serves a batch of any size. Where samples are joined, the op that joins them and its place.
pub fn apart(graph: &Graph, samples: usize, name: &str) -> Result<Apart, (&'static str, String)> {
    let sorted = sort(graph, samples);
    let Some(id) = sorted.graph.output(name) else { return Err(("output", name.to_owned())) };
    let joined = match sorted.class(id) {
        Class::Apart(_) => None,
        Class::Shared => Some(id),
        Class::Joined(by) => Some(by),
    };
    if let Some(by) = joined {
        let by = sorted.graph.node(by);
        return Err((by.op.name(), by.scope.clone()));
    }
    let Made { mut graph, places, forms } = sorted.micro(&[(name.to_owned(), id)], 1);
    graph.outputs = vec![(name.to_owned(), places[id.index()])];
    Ok(Apart { graph, axes: forms })
}

fn name_of(id: ValueId) -> String {
    format!("%{}", id.0)
}

/// Classes all values. A reduction over samples and further axes becomes two, so that a number a sample is kept and no more.
fn sort(graph: &Graph, samples: usize) -> Sorted {
    let nodes = Vec::with_capacity(graph.nodes.len());
    let graph_of_none = Graph { nodes, ..graph.clone() };
    let mut sorted = Sorted { graph: graph_of_none, classes: Vec::new(), alike: Vec::new(), samples };
    let mut new_ids: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let mut node = node.clone();
        node.inputs.iter_mut().for_each(|id| *id = new_ids[id.index()]);
        new_ids.push(sorted.push_reduced(node));
    }
    let new = |id: &mut ValueId| *id = new_ids[id.index()];
    sorted.graph.initial.clear();
    sorted.graph.results_mut().for_each(new);
    sorted
}

impl Sorted {
    fn class(&self, id: ValueId) -> Class {
        self.classes[id.index()]
    }

    fn push(&mut self, node: Node) -> ValueId {
        let class = self.class_of(&node);
        let axes = if class == Class::Shared { 0..node.ty.shape.len() } else { 0..0 };
        self.alike.push(axes.filter(|axis| self.is_alike(&node, *axis)).collect());
        self.graph.nodes.push(node);
        self.classes.push(class);
        ValueId(self.classes.len() as u32 - 1)
    }

    fn push_reduced(&mut self, node: Node) -> ValueId {
        let (Op::Sum { axes, keep } | Op::Mean { axes, keep }) = &node.op else { return self.push(node) };
        let operand = node.inputs[0];
        let shape = &self.graph.node(operand).ty.shape;
        let axis = match self.class(operand) {
            Class::Apart(axis) if axes.contains(&axis) && axes.len() > 1 => axis,
            _ => return self.push(node),
        };
        let reduction = |axes: Vec<usize>| match &node.op {
            Op::Sum { .. } => Op::Sum { axes, keep: *keep },
            _ => Op::Mean { axes, keep: *keep },
        };
        let others: Vec<usize> = axes.iter().copied().filter(|a| *a != axis).collect();
        let dims = shape.iter().enumerate().filter_map(|(i, size)| match (others.contains(&i), keep) {
            (false, _) => Some(*size),
            (true, true) => Some(1),
            (true, false) => None,
        });
        let ty = Type::float(dims.collect::<Vec<_>>());
        let left = if *keep { axis } else { axis - others.iter().filter(|a| **a < axis).count() };
        let inner = Node { op: reduction(others), inputs: vec![operand], ty, scope: node.scope.clone() };
        let outer = reduction(vec![left]);
        let inner = self.push(inner);
        self.push(Node { op: outer, inputs: vec![inner], ..node })
    }

    fn class_of(&self, node: &Node) -> Class {
        if let Op::Input { name } = &node.op {
            let decl = self.graph.inputs.iter().find(|input| input.name == *name);
            let has_rows = decl.is_some_and(|decl| decl.has_rows(self.samples));
            return if has_rows { Class::Apart(0) } else { Class::Shared };
        }
        let classes: Vec<Class> = node.inputs.iter().map(|id| self.class(*id)).collect();
        if let Some(joined) = classes.iter().find(|class| matches!(class, Class::Joined(_))) {
            return *joined;
        }
        if !classes.iter().any(|class| matches!(class, Class::Apart(_))) {
            return Class::Shared;
        }
        let keeps = |axis: &usize| {
            self.cuts(node, *axis).is_some_and(|cuts| {
                node.inputs.iter().zip(&cuts).all(|(id, cut)| match (self.class(*id), cut) {
                    (Class::Apart(axis), cut) => *cut == Some(axis),
                    (Class::Shared, None) => true,
                    (Class::Shared, Some(cut)) => self.alike[id.index()].contains(cut),
                    (Class::Joined(_), _) => false,
                })
            })
        };
        match (0..node.ty.shape.len()).find(keeps) {
            Some(axis) => Class::Apart(axis),
            None => Class::Joined(ValueId(self.classes.len() as u32)),
        }
    }

    /// Whether a node that hangs on no sample is made of like blocks along `axis`.
    fn is_alike(&self, node: &Node, axis: usize) -> bool {
        self.cuts(node, axis).is_some_and(|cuts| {
            let mut operands = node.inputs.iter().zip(cuts);
            operands.all(|(id, cut)| cut.is_none_or(|cut| self.alike[id.index()].contains(&cut)))
        })
    }

    /// See [`rows::cuts`]; for no axis that cannot hold samples.
    fn cuts(&self, node: &Node, axis: usize) -> Option<Vec<Option<usize>>> {
        let types: Vec<&Type> = node.inputs.iter().map(|id| &self.graph.node(*id).ty).collect();
        let size = node.ty.shape[axis];
        if size == 0 || !size.is_multiple_of(self.samples) {
            return None;
        }
        rows::cuts(&node.op, &types, &node.ty, axis, self.samples)
    }

    /// Whether a value keeps samples apart, and those of a micro-batch lie behind one another in it.
    fn is_by_blocks(&self, id: ValueId) -> bool {
        match self.class(id) {
            Class::Apart(axis) => self.graph.node(id).ty.shape[..axis].iter().all(|size| *size == 1),
            Class::Shared | Class::Joined(_) => false,
        }
    }

    /// Attention and convolutions are what micro-batches save the memory of, so they may not see joined samples.
    fn check_encoders(&self) -> Result<(), Coupling> {
        for (node, class) in self.graph.nodes.iter().zip(&self.classes) {
            if let (Op::Attention { .. } | Op::Conv2d { .. }, Class::Joined(by)) = (&node.op, class) {
                let by = self.graph.node(*by);
                return Err(Coupling {
                    op: by.op.name(),
                    scope: by.scope.clone(),
                    encoder_op: node.op.name(),
                    encoder_scope: node.scope.clone(),
                });
            }
        }
        Ok(())
    }
}

/// Where the graph is cut.
struct Cut {
    /// Values that are computed by micro-batches and read by the whole batch, in order.
    joined: Vec<ValueId>,
    /// For each node, whether the whole batch computes it.
    coupled: Vec<bool>,
}

impl Sorted {
    fn cut(&self) -> Cut {
        let Graph { nodes, losses, total, monitors, updates, outputs, .. } = &self.graph;
        let mut wanted = vec![false; nodes.len()];
        let named = [losses, monitors, updates].into_iter().flatten().map(|(_, id)| *id);
        let apart = |id: &ValueId| self.is_by_blocks(*id);
        let others = outputs.iter().map(|(_, id)| *id).filter(|id| !apart(id));
        named.chain(*total).chain(others).for_each(|id| wanted[id.index()] = true);
        let mut cut = Cut { joined: Vec::new(), coupled: vec![false; nodes.len()] };
        for (id, node) in nodes.iter().enumerate().rev() {
            if !wanted[id] {
                continue;
            }
            // These only repeat or rename what they read, which is the smaller thing to keep.
            let renames = matches!(
                node.op,
                Op::Input { .. } | Op::OneHot { .. } | Op::Broadcast | Op::Reshape | Op::StopGradient
            );
            if self.is_by_blocks(ValueId(id as u32)) && !renames {
                cut.joined.push(ValueId(id as u32));
            } else {
                cut.coupled[id] = true;
                node.inputs.iter().for_each(|operand| wanted[operand.index()] = true);
            }
        }
        cut.joined.reverse();
        cut
    }

    /// The part on the whole batch, and the layout of its tensors.
    fn coupled(&self, cut: &Cut, program: &Layout) -> (Graph, Layout) {
        let mut new_ids: Vec<Option<ValueId>> = vec![None; self.graph.nodes.len()];
        let mut graph = Graph { nodes: Vec::new(), inputs: self.graph.inputs.clone(), ..Graph::default() };
        let carries = self.graph.carries_gradient(program);
        let mut values = Vec::new();
        let mut joined = cut.joined.iter().peekable();
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let is_joined = joined.next_if(|joined| joined.index() == id).is_some();
            let mut node = node.clone();
            if is_joined {
                let name = name_of(ValueId(id as u32));
                node.inputs.clear();
                node.op = if node.ty.dtype == DType::Int {
                    graph.inputs.push(InputDecl { name: name.clone(), kind: InputKind::Joined, ty: node.ty.clone() });
                    Op::Input { name }
                } else {
                    let kind = if carries[id] { TensorKind::Trained } else { TensorKind::Fixed };
                    let shape = node.ty.shape.clone();
                    values.push(TensorDecl { path: name.clone(), shape, role: Role::Weight, kind, init: Init::Zeros });
                    Op::Param { path: name }
                };
            } else if cut.coupled[id] {
                node.inputs.iter_mut().for_each(|id| *id = new_ids[id.index()].expect("operands are wanted too"));
            } else {
                continue;
            }
            new_ids[id] = Some(ValueId(graph.nodes.len() as u32));
            graph.nodes.push(node);
        }
        let new = |id: &ValueId| new_ids[id.index()];
        let list = |list: &[(String, ValueId)]| -> Vec<(String, ValueId)> {
            list.iter().filter_map(|(name, id)| Some((name.clone(), new(id)?))).collect()
        };
        let apart = |(_, id): &&(String, ValueId)| self.is_by_blocks(*id);
        graph.losses = list(&self.graph.losses);
        graph.monitors = list(&self.graph.monitors);
        graph.updates = list(&self.graph.updates);
        let outputs = self.graph.outputs.iter().filter(|output| !apart(output)).cloned().collect::<Vec<_>>();
        graph.outputs = list(&outputs);
        graph.total = self.graph.total.as_ref().and_then(new);
        let graph = prune::prune(&graph);
        let read = |path: &str| graph.nodes.iter().any(|n| matches!(&n.op, Op::Param { path: of } if of == path));
        let written = |path: &str| graph.updates.iter().any(|(of, _)| of == path);
        let own = program.tensors.iter().filter(|decl| read(&decl.path) || written(&decl.path));
        let layout = Layout::new(own.cloned().chain(values).collect());
        // A value may carry a gradient of the total elsewhere, and none here.
        let reached = graph.reached(&layout);
        let mut tensors = layout.tensors.clone();
        for (decl, reached) in tensors.iter_mut().zip(&reached) {
            if !reached && decl.path.starts_with('%') {
                decl.kind = TensorKind::Fixed;
            }
        }
        (graph, Layout::new(tensors))
    }
}
