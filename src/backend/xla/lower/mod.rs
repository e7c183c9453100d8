//! A graph as ops of StableHLO: for a whole module, or for a region of one.
//!
//! [`emit`] walks the nodes and asks its caller for the leaves, arguments of `@main` or values of whatever function is at hand.
//! What an op is made of stands in a file for each family; [`text`] writes it down, [`build`] knows its types.
//!
//! **Invariant:** one arm for each op, no `_`: a new op stops the build here.
//!
//! **Invariant:** semantics are those of the `cpu` backend: NaN stays, the first of equal values counts, products are rounded
//! where a plan says so. An id out of range, which stops `cpu`, gives some value here: [`Values::id_checks`] tells which ids to
//! look at.

pub mod build;
mod collectives;
mod conv;
mod cudnn;
mod elementwise;
mod factor;
mod heads;
mod kernels;
mod module;
mod norm;
mod product;
mod rows;
pub mod text;
mod tokens;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

pub use kernels::Kernels;
pub use module::{Leaf, Module, module};
pub use text::{Function, Scalar, TensorType, Value};

use self::build::Order;
use self::conv::Conv;
use self::heads::Heads;
use self::norm::Over;
use self::product::Attention;
use crate::graph::{Graph, Node, ValueId};
use crate::op::{DType, Op, Type, interpolate};
use crate::plan::Passes;

/// The type of a value of the graph, whose floats are `scalar`.
pub fn tensor_type(ty: &Type, scalar: Scalar) -> TensorType {
    let scalar = match ty.dtype {
        DType::Float => scalar,
        DType::Int => Scalar::I64,
    };
    TensorType::new(ty.shape.as_slice(), scalar)
}

/// Writes the ops of `passes.graph` behind what `function` holds, floats as `scalar`. `bind` gives the value of each leaf, an
/// `input` or a `param`; it may write ops too.
pub fn emit(
    function: &mut Function,
    passes: &Passes,
    scalar: Scalar,
    bind: &mut dyn FnMut(&mut Function, &Node) -> Value,
) -> Values {
    let graph = &passes.graph;
    let is_rounded = scalar == Scalar::F32 && passes.rounded.contains(&true);
    let stores = is_rounded && function.kernels.rounds_results;
    let mut emitter = Emitter {
        function,
        graph,
        passes,
        scalar,
        values: Vec::with_capacity(graph.nodes.len()),
        truths: vec![None; graph.nodes.len()],
        checked: HashSet::new(),
        attentions: HashMap::new(),
        copies: HashMap::new(),
        heads: if stores { Heads::new(passes) } else { Heads::default() },
        stores,
        id_checks: Vec::new(),
    };
    let mut runs = passes.again.iter().peekable();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some(run) = runs.next_if(|run| run.start == index) {
            emitter.compute_again(run);
        }
        emitter.function.at(&node.scope);
        let value = match &node.op {
            Op::Input { .. } | Op::Param { .. } => {
                let value = bind(emitter.function, node);
                debug_assert_eq!(value.ty, tensor_type(&node.ty, scalar), "{:?}", node.op);
                Held::One(value)
            }
            _ => emitter.evaluate(index, node),
        };
        emitter.values.push(value);
    }
    let Emitter { values, id_checks, .. } = emitter;
    function.at("");
    let types = graph.nodes.iter().map(|node| tensor_type(&node.ty, scalar)).collect();
    Values { values, types, id_checks }
}

/// Ids that have to lie in `0..limit`, and the node that takes them.
#[derive(Debug, Clone)]
pub struct IdCheck {
    pub node: ValueId,
    pub ids: Value,
    pub limit: usize,
}

/// The values of a graph's nodes in a function.
#[derive(Debug)]
pub struct Values {
    values: Vec<Held>,
    types: Vec<TensorType>,
    /// Those of ids that may be out of range: the graph does not say that they are not.
    pub id_checks: Vec<IdCheck>,
}

impl Values {
    /// The value of a node, of its own type.
    pub fn get(&mut self, function: &mut Function, id: ValueId) -> Value {
        let (held, ty) = (&mut self.values[id.index()], &self.types[id.index()]);
        let value = held.whole(function, &ty.shape);
        *held = Held::One(value.clone());
        value
    }
}

impl IdCheck {
    /// The first id that is out of range, else 0: a scalar of ids.
    pub fn first_bad(&self, function: &mut Function) -> Value {
        tokens::first_bad_id(function, &self.ids, self.limit)
    }
}

/// What a node has given.
#[derive(Debug, Clone)]
enum Held {
    /// The node's elements in their order, it may be under another shape.
    One(Value),
    /// The same, stored in bf16 though it is computed with in f32.
    Stored(Value),
    /// Gradients that lie one behind the other in the node's value, each of its own shape: slices pick them, so that none is
    /// copied.
    Several(Vec<Value>),
}

impl Held {
    fn whole(&self, function: &mut Function, shape: &[usize]) -> Value {
        match self {
            Held::One(value) => function.reshape(value, shape),
            Held::Stored(value) => {
                let value = function.reshape(value, shape);
                function.convert(&value, Scalar::F32)
            }
            Held::Several(parts) => {
                let flat: Vec<Value> = parts.iter().map(|part| function.reshape(part, &[part.ty.elements()])).collect();
                function.concat(&flat.iter().collect::<Vec<_>>(), 0)
            }
        }
    }

    /// The part that is `start..end` of the flat value, if there is one.
    fn part(&self, start: usize, end: usize) -> Option<&Value> {
        let Held::Several(parts) = self else { return None };
        let mut at = 0;
        parts.iter().find(|part| {
            let from = at;
            at += part.ty.elements();
            (from, at) == (start, end)
        })
    }
}

struct Emitter<'a> {
    function: &'a mut Function,
    graph: &'a Graph,
    passes: &'a Passes,
    scalar: Scalar,
    values: Vec<Held>,
    /// Comparisons as truths, for who chooses by them.
    truths: Vec<Option<Value>>,
    /// Ids that are looked at, and their limits.
    checked: HashSet<(ValueId, usize)>,
    id_checks: Vec<IdCheck>,
    /// What attentions keep for their gradients, by their operands.
    attentions: HashMap<Vec<ValueId>, cudnn::Kept>,
    /// Sums of gradients as they are stored for products.
    copies: HashMap<ValueId, Value>,
    heads: Heads,
    /// Whether what products take and give lies in memory as bf16, and gradients are computed from that.
    stores: bool,
}

/// Which operand of a node is ids, and what they have to lie below.
fn id_range(graph: &Graph, node: &Node) -> Option<(usize, usize)> {
    let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
    match &node.op {
        Op::GatherTokens => Some((1, shape(0)[1])),
        Op::ScatterTokens { tokens } => Some((1, *tokens)),
        Op::OneHot { classes } => Some((0, *classes)),
        Op::CrossEntropy | Op::CrossEntropyGrad => shape(0).last().map(|classes| (1, *classes)),
        _ => None,
    }
}

impl Emitter<'_> {
    /// Sets a run of nodes apart that compute values again: a compiler sees other operands than those of the first computation,
    /// and ones that are there only once the gradient has come so far. What is read from leaves alone is not computed again.
    fn compute_again(&mut self, run: &Range<usize>) {
        let nodes = &self.graph.nodes;
        let mut ids: Vec<ValueId> = nodes[run.clone()].iter().flat_map(|node| node.inputs.iter().copied()).collect();
        // The node behind the run waits for the block's gradient, whose operands are no clones.
        ids.extend(nodes.get(run.end).into_iter().flat_map(|reader| reader.inputs.iter().copied()));
        ids.retain(|id| id.index() < run.start && !self.graph.node(*id).inputs.is_empty());
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| matches!(self.values[id.index()], Held::One(_) | Held::Stored(_)));
        if ids.is_empty() {
            return;
        }
        let kept: Vec<Value> = ids
            .iter()
            .map(|id| match &self.values[id.index()] {
                Held::One(value) | Held::Stored(value) => value.clone(),
                Held::Several(_) => unreachable!("only whole values are left"),
            })
            .collect();
        let kept = self.function.barrier(&kept.iter().collect::<Vec<_>>());
        for (id, value) in ids.into_iter().zip(kept) {
            match &mut self.values[id.index()] {
                Held::One(held) | Held::Stored(held) => *held = value,
                Held::Several(_) => unreachable!("only whole values are left"),
            }
        }
    }

    /// Operand `i` for a gradient: computed again from what is stored, where the forward pass' values would else be kept in f32.
    fn operand_again(&mut self, node: &Node, i: usize) -> Value {
        let shape = &self.graph.node(node.inputs[i]).ty.shape;
        match &self.values[node.inputs[i].index()] {
            Held::Stored(value) => {
                let again = self.function.barrier(&[value]).remove(0);
                Held::Stored(again).whole(self.function, shape)
            }
            _ => self.operand(node, i),
        }
    }

    /// Operand `i` of a layer's gradients: a sum of gradients along the residual stream as it is stored for products, once for all
    /// that read it; all else as it is.
    fn operand_stored(&mut self, node: &Node, i: usize) -> Value {
        let shape = &self.graph.node(node.inputs[i]).ty.shape;
        let mut id = node.inputs[i];
        while self.graph.node(id).op == Op::Reshape {
            id = self.graph.node(id).inputs[0];
        }
        let held = &self.values[id.index()];
        let (Op::Add, Held::One(value)) = (&self.graph.node(id).op, held) else { return self.operand(node, i) };
        let stored = match self.copies.get(&id) {
            Some(stored) => stored.clone(),
            None => self.function.stored(value),
        };
        self.copies.insert(id, stored.clone());
        Held::Stored(stored).whole(self.function, shape)
    }

    /// Operand `i` of a node, of its own shape.
    fn operand(&mut self, node: &Node, i: usize) -> Value {
        let id = node.inputs[i];
        self.values[id.index()].whole(self.function, &self.graph.node(id).ty.shape)
    }

    /// Operand `i` as a condition: whether it is not 0.
    fn truth(&mut self, node: &Node, i: usize) -> Value {
        if let Some(truth) = &self.truths[node.inputs[i].index()] {
            return truth.clone();
        }
        let x = self.operand(node, i);
        self.function.compare_to(&x, Order::Ne, 0.0)
    }

    /// Notes ids that may be out of range; of ids that several ops take, the first op.
    fn check_ids(&mut self, index: usize, node: &Node) {
        let Some((operand, limit)) = id_range(self.graph, node) else { return };
        let id = node.inputs[operand];
        if self.is_in_range(id, limit) || !self.checked.insert((id, limit)) {
            return;
        }
        let ids = self.operand(node, operand);
        self.id_checks.push(IdCheck { node: ValueId(index as u32), ids, limit });
    }

    /// Whether ids are places on an axis of at most `limit`, whatever the batch holds.
    fn is_in_range(&self, id: ValueId, limit: usize) -> bool {
        let node = self.graph.node(id);
        let last = |id: ValueId| self.graph.node(id).ty.shape.last().copied();
        match &node.op {
            Op::Iota => node.ty.elements() <= limit,
            Op::Argsort | Op::Argmax => last(node.inputs[0]).is_some_and(|count| count <= limit),
            Op::Reshape
            | Op::Permute { .. }
            | Op::Broadcast
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::StopGradient => node.inputs.iter().all(|id| self.is_in_range(*id, limit)),
            _ => false,
        }
    }

    /// Whether no row of ids has one twice: rows of places in order, and parts of them.
    fn is_distinct(&self, id: ValueId) -> bool {
        let node = self.graph.node(id);
        match &node.op {
            Op::Iota | Op::Argsort => true,
            Op::Slice { .. } | Op::StopGradient => self.is_distinct(node.inputs[0]),
            Op::Broadcast => {
                let last = |id: ValueId| self.graph.node(id).ty.shape.last().copied();
                last(node.inputs[0]) == last(id) && self.is_distinct(node.inputs[0])
            }
            _ => false,
        }
    }

    /// A slice of gradients that lie behind one another, where it is one of them.
    fn picked(&self, node: &Node) -> Option<Value> {
        match node.op {
            Op::Slice { start, end, .. } => self.values[node.inputs[0].index()].part(start, end).cloned(),
            _ => None,
        }
    }

    /// A node that is no leaf.
    fn evaluate(&mut self, index: usize, node: &Node) -> Held {
        if let Some(part) = self.picked(node) {
            return Held::One(part);
        }
        if self.heads.is_passed_over(index) {
            return Held::Several(Vec::new());
        }
        if let Some(head) = self.heads.of_slice(index) {
            return heads::emit(self, node, head);
        }
        self.check_ids(index, node);
        let shape = node.ty.shape.as_slice();
        let ty = tensor_type(&node.ty, self.scalar);
        // f64 has no rounded products.
        let bf16 = self.passes.rounded[index] && self.scalar == Scalar::F32;
        let truth = matches!(node.op, Op::Select).then(|| self.truth(node, 0));
        let distinct = matches!(node.op, Op::ScatterTokens { .. }) && self.is_distinct(node.inputs[1]);
        let operands: Vec<Value> = match (&node.op, &self.values[..]) {
            // From whatever shape the elements are held in: a part of gradients has its own already.
            (Op::Reshape, values) if let Held::One(value) = &values[node.inputs[0].index()] => vec![value.clone()],
            (Op::Reshape, values) if let Held::Stored(value) = &values[node.inputs[0].index()] => {
                return Held::Stored(self.function.reshape(value, shape));
            }
            (Op::GeluGrad, _) => vec![self.operand_again(node, 0), self.operand(node, 1)],
            // Gradients of a layer: of its input, its weight, its bias.
            (Op::Matmul { .. } | Op::TransposedMatmul | Op::Sum { .. }, _)
                if self.stores && self.passes.of_layer[index] =>
            {
                let rest: Vec<Value> = (1..node.inputs.len()).map(|i| self.operand(node, i)).collect();
                [self.operand_stored(node, 0)].into_iter().chain(rest).collect()
            }
            _ => (0..node.inputs.len()).map(|i| self.operand(node, i)).collect(),
        };
        let (x, has) = (|i: usize| &operands[i], |i: usize| operands.get(i));
        let affine = has(1).zip(has(2));
        let f = &mut *self.function;
        Held::One(match &node.op {
            Op::Input { .. } | Op::Param { .. } => unreachable!("leaves are bound"),
            Op::Full { value } => f.constant(*value, &ty),
            Op::Iota => f.iota(shape, 0),
            Op::ResizeWeights { from, to } => f.table(&interpolate::cubic_weights(*from, *to), &ty),

            Op::Add if self.stores && self.passes.stream[index] => {
                let sum = f.add(x(0), x(1));
                return Held::Stored(f.stored(&sum));
            }
            Op::Add => f.add(x(0), x(1)),
            Op::Sub => f.sub(x(0), x(1)),
            Op::Mul => f.mul(x(0), x(1)),
            Op::Div => f.div(x(0), x(1)),
            Op::Maximum => elementwise::extreme(f, x(0), Order::Gt, x(1)),
            Op::Minimum => elementwise::extreme(f, x(0), Order::Lt, x(1)),
            Op::Less | Op::Equal => {
                let order = if node.op == Op::Less { Order::Lt } else { Order::Eq };
                let truth = f.compare(x(0), order, x(1));
                self.truths[index] = Some(truth.clone());
                f.convert(&truth, self.scalar)
            }
            Op::Select => f.select(&truth.expect("a select has a condition"), x(1), x(2)),
            Op::AddConst { value } => f.plus(x(0), *value),
            Op::MulConst { value } => f.times(x(0), *value),
            Op::PowConst { value } => elementwise::power(f, x(0), *value),
            Op::Neg => f.unary("negate", x(0)),
            Op::Exp => f.unary("exponential", x(0)),
            Op::Log => f.unary("log", x(0)),
            Op::Sqrt => f.unary("sqrt", x(0)),
            Op::Abs => f.unary("abs", x(0)),
            Op::Relu => elementwise::relu(f, x(0)),
            Op::Gelu => elementwise::gelu(f, x(0), self.stores),
            Op::GeluGrad => elementwise::gelu_grad(f, x(0), x(1), self.stores),
            Op::Tanh => f.unary("tanh", x(0)),
            Op::Sigmoid => f.unary("logistic", x(0)),
            Op::Sin => f.unary("sine", x(0)),
            Op::Cos => f.unary("cosine", x(0)),
            Op::Floor => f.unary("floor", x(0)),
            Op::Atan2 => f.binary("atan2", x(0), x(1)),
            Op::ToFloat => f.convert(x(0), self.scalar),
            Op::ToInt => elementwise::to_int(f, x(0)),

            // Axes that are kept have one value: the same elements.
            Op::Sum { axes, .. } => f.sum(x(0), axes),
            Op::Mean { axes, .. } => f.mean(x(0), axes),
            Op::StopGradient | Op::Replicate { .. } => x(0).clone(),
            Op::AllGather { axis, ranks } => f.all_gather(x(0), *axis, *ranks),
            Op::OwnRows { axis, ranks } => f.own_rows(x(0), *axis, *ranks),
            Op::AllReduce { ranks } => f.all_reduce(x(0), *ranks),
            Op::Reshape => f.reshape(x(0), shape),
            Op::Permute { axes } => f.transpose(x(0), axes),
            Op::Broadcast => {
                let skipped = shape.len() - x(0).rank();
                f.broadcast(x(0), shape, &(skipped..shape.len()).collect::<Vec<_>>())
            }
            Op::Slice { axis, start, end } => {
                let (mut starts, mut ends) = (vec![0; x(0).rank()], x(0).shape().to_vec());
                (starts[*axis], ends[*axis]) = (*start, *end);
                f.slice(x(0), &starts, &ends)
            }
            Op::Concat { axis } => f.concat(&operands.iter().collect::<Vec<_>>(), *axis),
            Op::Patchify { patch, order } => tokens::patchify(f, x(0), *patch, *order),
            Op::Unpatchify { patch, order } => tokens::unpatchify(f, x(0), *patch, *order, shape),

            Op::Matmul { transpose_b } => product::matmul(f, (x(0), false), (x(1), *transpose_b), bf16),
            Op::TransposedMatmul => product::matmul(f, (x(0), true), (x(1), false), bf16),
            Op::Linear => {
                let product = product::linear(f, x(0), x(1), has(2), bf16);
                return if product.scalar() == self.scalar { Held::One(product) } else { Held::Stored(product) };
            }
            Op::Attention { scale } => {
                let attention = Attention { q: x(0), k: x(1), v: x(2), bias: has(3), scale: *scale, bf16 };
                if !(f.kernels.cudnn_attention && attention.fits_cudnn()) {
                    return Held::One(attention.forward(f));
                }
                let (result, kept) = attention.forward_by_cudnn(f);
                self.attentions.insert(node.inputs.clone(), kept);
                result
            }
            Op::AttentionGrad { scale } => {
                let attention = Attention { q: x(0), k: x(1), v: x(2), bias: has(4), scale: *scale, bf16 };
                if !(f.kernels.cudnn_attention && attention.fits_cudnn()) {
                    return Held::Several(attention.backward(f, x(3)));
                }
                let of_forward: Vec<ValueId> =
                    node.inputs.iter().enumerate().filter(|(i, _)| *i != 3).map(|(_, id)| *id).collect();
                let kept = self.attentions.get(&of_forward).cloned();
                // Where the block is computed again, its attention may be needed for nothing but this.
                let kept = kept.unwrap_or_else(|| attention.forward_by_cudnn(f).1);
                return Held::Several(attention.backward_by_cudnn(f, x(3), &kept));
            }
            Op::Conv2d { stride, padding, groups } => {
                Conv { stride: *stride, padding: *padding, groups: *groups, bf16 }.forward(f, x(0), x(1), has(2), shape)
            }
            Op::Conv2dInputGrad { stride, padding, groups } => {
                Conv { stride: *stride, padding: *padding, groups: *groups, bf16 }.input_grad(f, x(0), x(1), shape)
            }
            Op::Conv2dWeightGrad { stride, padding, groups } => {
                Conv { stride: *stride, padding: *padding, groups: *groups, bf16 }.weight_grad(f, x(0), x(1), shape)
            }

            Op::LayerNorm { eps } => norm::norm(f, x(0), affine, Over::Last, *eps, self.stores),
            Op::BatchNorm { eps } => norm::norm(f, x(0), affine, Over::Others, *eps, false),
            Op::LayerNormGrad { eps } => {
                return Held::Several(norm::norm_grad(f, (x(0), x(1)), has(2), Over::Last, *eps, self.stores));
            }
            Op::BatchNormGrad { eps } => {
                return Held::Several(norm::norm_grad(f, (x(0), x(1)), has(2), Over::Others, *eps, false));
            }
            Op::Softmax => rows::softmax(f, x(0)),
            Op::LogSoftmax => rows::log_softmax(f, x(0)),
            Op::SoftmaxGrad => rows::softmax_grad(f, x(0), x(1)),
            Op::LogSoftmaxGrad => rows::log_softmax_grad(f, x(0), x(1)),
            Op::CrossEntropy => rows::cross_entropy(f, x(0), x(1)),
            Op::CrossEntropyGrad => rows::cross_entropy_grad(f, x(0), x(1), x(2)),
            Op::L2Normalize { eps } => rows::l2_normalize(f, x(0), *eps),
            Op::L2NormalizeGrad { eps } => rows::l2_normalize_grad(f, x(0), x(1), *eps),
            Op::LogDet => factor::log_det(f, x(0)),
            Op::LogDetGrad => factor::log_det_grad(f, x(0), x(1)),

            Op::GatherTokens => tokens::gather_tokens(f, x(0), x(1)),
            Op::ScatterTokens { tokens } => tokens::scatter_tokens(f, x(0), x(1), *tokens, distinct),
            Op::OneHot { classes } => rows::one_hot(f, x(0), *classes, self.scalar),
            Op::Argmax => tokens::argmax(f, x(0)),
            Op::Argsort => f.sorted_places(x(0)),
        })
    }
}
