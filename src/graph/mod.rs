//! The training graph: static single assignment with static shapes, and the tensors it reads and writes.
//!
//! Before: `build` lowers the typed pipeline. After: a backend runs it.
//!
//! **Invariant:** `nodes` is in topological order: a node's operands have smaller ids. [`verify`] checks every
//! invariant of this module after each pass.

pub mod accumulate;
pub mod build;
pub mod flops;
pub mod grad;
pub mod hiding;
pub mod masking;
pub mod outlook;
pub mod prune;
pub mod recompute;
pub mod share;
pub mod sketch;
pub mod spread;
pub mod step;
pub mod text;
pub mod tokens;
pub mod verify;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

pub use self::verify::Fault;
pub use crate::decl::{BlockMask, Init, InputDecl, InputKind, MultiBlock, TensorDecl, TensorKind};
use crate::op::{Op, Type};
use crate::spec::{EmaSpec, Spec};

/// Index of a node and of the one value it makes; prints as `%3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub u32);

impl ValueId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub ty: Type,
    /// Where it comes from: the module or branch path, such as `online.encoder.blocks.3.attn`.
    pub scope: String,
}

impl Node {
    /// Operands that a gradient can pass to.
    pub fn gradient_operands(&self) -> &[ValueId] {
        match &self.op {
            // The condition chooses; it has no slope.
            Op::Select => &self.inputs[1..],
            op if op.is_differentiable() => &self.inputs,
            _ => &[],
        }
    }
}

/// A state `[K, D]` that starts as the `K` centres found by `rounds` of k-means in the rows of `value`, `[.., D]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Initial {
    pub path: String,
    pub value: ValueId,
    pub rounds: usize,
}

/// Forward computation of one mode, and its gradients where `grad` has made them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub inputs: Vec<InputDecl>,
    /// Scalars by name, in the pipeline's order, weights included. Their sum is `total`.
    pub losses: Vec<(String, ValueId)>,
    /// What is differentiated; `None` in evaluation graphs.
    pub total: Option<ValueId>,
    /// Scalars that are logged and not differentiated.
    pub monitors: Vec<(String, ValueId)>,
    /// State tensors written after the forward pass: (path, new value).
    pub updates: Vec<(String, ValueId)>,
    /// States whose first value the first batch gives.
    pub initial: Vec<Initial>,
    /// Named values that a caller may ask for: `online.query`, `features`.
    pub outputs: Vec<(String, ValueId)>,
    /// Gradients of the total by the path of the trained tensor: of a graph that `grad` differentiated.
    #[serde(default)]
    pub gradients: Vec<(String, ValueId)>,
}

impl Graph {
    pub fn node(&self, id: ValueId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Adds a node behind all others.
    fn push(&mut self, node: Node) -> ValueId {
        self.nodes.push(node);
        ValueId(self.nodes.len() as u32 - 1)
    }

    /// For each node, whether the total's gradient flows through its value to a trained tensor.
    ///
    /// All others stay off a tape: a monitor's √ at 0 would make NaN of a gradient of 0.
    pub fn carries_gradient(&self, layout: &Layout) -> Vec<bool> {
        let mut in_total = vec![false; self.nodes.len()];
        if let Some(total) = self.total {
            in_total[total.index()] = true;
        }
        for (id, node) in self.nodes.iter().enumerate().rev() {
            if in_total[id] {
                node.gradient_operands().iter().for_each(|i| in_total[i.index()] = true);
            }
        }
        let mut carries = vec![false; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            carries[id] = in_total[id]
                && match &node.op {
                    Op::Param { path } => layout.get(path).is_some_and(|(decl, _)| decl.kind == TensorKind::Trained),
                    _ => node.gradient_operands().iter().any(|i| carries[i.index()]),
                };
        }
        carries
    }

    /// For each trained tensor of `layout`, whether a gradient of the total can arrive.
    pub fn reached(&self, layout: &Layout) -> Vec<bool> {
        let mut reached = vec![false; layout.trained()];
        for (node, carries) in self.nodes.iter().zip(self.carries_gradient(layout)) {
            if let (true, Op::Param { path }) = (carries, &node.op)
                && let Some(index) = layout.index(path)
            {
                reached[index] = true;
            }
        }
        reached
    }

    pub fn output(&self, name: &str) -> Option<ValueId> {
        self.outputs.iter().find(|(n, _)| n == name).map(|(_, id)| *id)
    }

    /// What is read to compute some of the outputs alone.
    pub fn inputs_of(&self, outputs: &[String]) -> Vec<InputDecl> {
        let mut alone = self.clone();
        alone.outputs.retain(|(name, _)| outputs.contains(name));
        prune::prune(&alone).inputs
    }

    /// All that the graph is there for: losses, monitors, updates, outputs, gradients, the total and first values of states, in this
    /// order, which programs give them in. A value that is several of these comes as often.
    pub fn results(&self) -> impl Iterator<Item = ValueId> {
        self.results_with(&self.gradients)
    }

    /// The same without gradients, which a caller has a place of its own for.
    pub fn results_but_gradients(&self) -> impl Iterator<Item = ValueId> {
        self.results_with(&[])
    }

    fn results_with<'g>(&'g self, gradients: &'g [(String, ValueId)]) -> impl Iterator<Item = ValueId> + 'g {
        let named = [&self.losses, &self.monitors, &self.updates, &self.outputs].map(Vec::as_slice);
        let named = named.into_iter().chain([gradients]).flatten().map(|(_, id)| *id);
        named.chain(self.total).chain(self.initial.iter().map(|initial| initial.value))
    }

    /// The same, to be named anew.
    pub fn results_mut(&mut self) -> impl Iterator<Item = &mut ValueId> {
        let Graph { losses, total, monitors, updates, initial, outputs, gradients, .. } = self;
        let named = [losses, monitors, updates, outputs, gradients].into_iter().flatten().map(|(_, id)| id);
        named.chain(total).chain(initial.iter_mut().map(|initial| &mut initial.value))
    }

    /// The graph with these outputs, in their order, and no others.
    pub fn with_outputs(&self, names: &[String]) -> Result<Graph, UnknownOutput> {
        let find = |name: &String| match self.output(name) {
            Some(id) => Ok((name.clone(), id)),
            None => Err(UnknownOutput { name: name.clone() }),
        };
        let outputs = names.iter().map(find).collect::<Result<_, _>>()?;
        Ok(Graph { outputs, ..self.clone() })
    }
}

/// A graph was asked for what it does not give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the graph has no output `{name}`")]
pub struct UnknownOutput {
    pub name: String,
}

/// Where each tensor lies in one flat arena. Trained tensors come first, so that gradients and moments are arenas of
/// length `trained_len` with the same offsets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<TensorDecl>", into = "Vec<TensorDecl>")]
pub struct Layout {
    pub tensors: Vec<TensorDecl>,
    pub offsets: Vec<usize>,
    pub trained_len: usize,
    pub total_len: usize,
    by_path: HashMap<String, usize>,
}

impl From<Vec<TensorDecl>> for Layout {
    fn from(tensors: Vec<TensorDecl>) -> Self {
        Layout::new(tensors)
    }
}

impl From<Layout> for Vec<TensorDecl> {
    fn from(layout: Layout) -> Self {
        layout.tensors
    }
}

impl Layout {
    /// Orders `tensors` (trained, EMA, fixed, state; otherwise stable) and assigns offsets.
    pub fn new(mut tensors: Vec<TensorDecl>) -> Self {
        tensors.sort_by_key(|t| match t.kind {
            TensorKind::Trained => 0,
            TensorKind::Ema => 1,
            TensorKind::Fixed => 2,
            TensorKind::State => 3,
        });
        let mut offsets = Vec::with_capacity(tensors.len());
        let (mut total_len, mut trained_len) = (0, 0);
        for tensor in &tensors {
            offsets.push(total_len);
            total_len += tensor.elements();
            if tensor.kind == TensorKind::Trained {
                trained_len = total_len;
            }
        }
        let by_path = tensors.iter().enumerate().map(|(i, t)| (t.path.clone(), i)).collect();
        Layout { tensors, offsets, trained_len, total_len, by_path }
    }

    /// Number of trained tensors; they stand first.
    pub fn trained(&self) -> usize {
        self.tensors.partition_point(|t| t.kind == TensorKind::Trained)
    }

    pub fn index(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// Range of tensor `index` in the arena.
    pub fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.offsets[index]..self.offsets[index] + self.tensors[index].elements()
    }

    /// Declaration and range of the tensor at `path`.
    pub fn get(&self, path: &str) -> Option<(&TensorDecl, std::ops::Range<usize>)> {
        let index = self.index(path)?;
        Some((&self.tensors[index], self.range(index)))
    }
}

/// A compiled pipeline: all that is needed to run it, and nothing of its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub spec: Spec,
    pub layout: Layout,
    /// In the order in which they are applied.
    pub emas: Vec<EmaSpec>,
    pub train: Graph,
    /// Mode `eval`; output `features` is `[B, D]`. Its one view input is a recipe.
    pub features: Option<Graph>,
    /// Mode `eval` of the branches; outputs `original`, `masked`, `reconstructed`: `[B, C, H, W]`, normalised.
    pub pictures: Option<Graph>,
    /// How many ranks share a batch: the machines' choice as a run begins, and no part of what is kept of it.
    #[serde(skip, default = "alone")]
    pub ranks: usize,
    /// Whether they share out what the optimizer keeps: the machines' choice too.
    #[serde(skip)]
    pub sharded: bool,
}

fn alone() -> usize {
    1
}
