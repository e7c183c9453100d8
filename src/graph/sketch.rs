//! A training graph seen from afar: views, modules, the values of branches and losses, and what flows between them.
//!
//! Before: a compiled program. After: `report` draws it.
//!
//! **Invariant:** a part stands for all nodes of one module, or of one value, in one branch; what only monitors need is left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Graph, Program, TensorKind, ValueId, prune};
use crate::decl::InputKind;
use crate::op::Op;

/// What a part is, which says how it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    View,
    /// A module with as many trained values.
    Trained(usize),
    /// An averaged copy.
    Copy,
    /// A module whose tensors stay as they are, or are states.
    Fixed,
    /// What a branch computes outside of modules: masks, means.
    Value,
    Loss,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub kind: Kind,
    /// Index among [`Sketch::lanes`].
    pub lane: usize,
}

/// Values that go from one part to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub from: usize,
    pub to: usize,
    /// Names of the branch's values that flow here.
    pub names: Vec<String>,
    /// Whether the total's gradient comes back this way to something trained.
    pub gradient: bool,
}

/// An average: `to` follows `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    pub from: usize,
    pub to: usize,
    /// That of the first step.
    pub momentum: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sketch {
    /// Branches in the pipeline's order, and losses. A view stands in the lane of its first reader.
    pub lanes: Vec<String>,
    pub parts: Vec<Part>,
    pub flows: Vec<Flow>,
    pub follows: Vec<Follow>,
}

impl Sketch {
    pub fn of(program: &Program) -> Sketch {
        // What only monitors, updates and unread values hang on is no part of the method.
        let mut graph = program.train.clone();
        let named = std::mem::take(&mut graph.outputs);
        (graph.monitors, graph.updates, graph.initial) = Default::default();
        let needed = prune::needed(&graph);
        Draft { program, graph: &program.train, needed, named, sketch: Sketch::default() }.finish()
    }
}

/// Where a value crosses from a part into another, and whether a gradient comes back over that way.
type Crossing = (ValueId, bool);

struct Draft<'p> {
    program: &'p Program,
    graph: &'p Graph,
    needed: Vec<bool>,
    named: Vec<(String, ValueId)>,
    sketch: Sketch,
}

impl Draft<'_> {
    fn finish(mut self) -> Sketch {
        let branches = self.branches();
        self.sketch.lanes = branches.iter().cloned().chain(["losses".to_owned()]).collect();
        let live = self.hanging_on(|op| matches!(op, Op::Input { name } if self.kind_of(name).is_some()));
        let boxed = self.boxed(&live, &branches);
        let sources = self.sources(&live, &boxed);
        for (id, part) in boxed.iter().enumerate() {
            if let Some(part) = part {
                let from = self.outside(&sources[id], *part, &boxed, &sources);
                self.flow(&from, *part, &boxed);
            }
        }
        let losses = self.sketch.lanes.len() - 1;
        for (name, root) in self.graph.losses.clone() {
            let part = self.part(&name, Kind::Loss, losses);
            let from = match boxed[root.index()] {
                Some(_) => vec![(root, true)],
                None => sources[root.index()].clone(),
            };
            self.flow(&from, part, &boxed);
        }
        self.follow();
        let Sketch { parts, flows, .. } = &mut self.sketch;
        for index in 0..parts.len() {
            if parts[index].kind == Kind::View
                && let Some(reader) = flows.iter().find(|flow| flow.from == index)
            {
                parts[index].lane = parts[reader.to].lane;
            }
        }
        self.sketch
    }

    /// Branches by the values that they name, in their order.
    fn branches(&self) -> Vec<String> {
        let mut branches: Vec<String> = Vec::new();
        for (name, _) in &self.named {
            let branch = name.split('.').next().unwrap_or(name);
            if name.contains('.') && !branches.iter().any(|known| known == branch) {
                branches.push(branch.to_owned());
            }
        }
        branches
    }

    /// For each node, whether it hangs on one with such an op, or has one.
    fn hanging_on(&self, is_such: impl Fn(&Op) -> bool) -> Vec<bool> {
        let mut hangs: Vec<bool> = Vec::with_capacity(self.graph.nodes.len());
        for node in &self.graph.nodes {
            hangs.push(is_such(&node.op) || node.inputs.iter().any(|input| hangs[input.index()]));
        }
        hangs
    }

    /// The part of each node that hangs on the batch (`live`); the others are parts of their readers.
    fn boxed(&mut self, live: &[bool], branches: &[String]) -> Vec<Option<usize>> {
        let graph = self.graph;
        // What a module does before its first tensor, such as cutting patches, several may share: it is on the way to each.
        let weighed = self.hanging_on(|op| matches!(op, Op::Param { .. }));
        let mut boxed: Vec<Option<usize>> = vec![None; graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            let bare = !weighed[id] && self.module(&node.scope).is_some() && !matches!(node.op, Op::Input { .. });
            if self.needed[id] && live[id] && !bare {
                boxed[id] = self.part_of(ValueId(id as u32), branches);
            }
        }
        boxed
    }

    /// For each node, the nearest nodes with a part that it hangs on.
    fn sources(&self, live: &[bool], boxed: &[Option<usize>]) -> Vec<Vec<Crossing>> {
        let carries = self.graph.carries_gradient(&self.program.layout);
        let mut sources: Vec<Vec<Crossing>> = Vec::with_capacity(self.graph.nodes.len());
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let mut found: Vec<Crossing> = Vec::new();
            let inputs = node.inputs.iter().filter(|_| self.needed[id] && live[id]);
            for input in inputs {
                let through = carries[id] && node.gradient_operands().contains(input);
                let from = match boxed[input.index()] {
                    Some(_) => vec![(*input, carries[input.index()])],
                    None => sources[input.index()].clone(),
                };
                for (at, gradient) in from {
                    match found.iter_mut().find(|(other, _)| *other == at) {
                        Some((_, known)) => *known |= gradient && through,
                        None => found.push((at, gradient && through)),
                    }
                }
            }
            sources.push(found);
        }
        sources
    }

    fn kind_of(&self, input: &str) -> Option<&InputKind> {
        let decl = self.graph.inputs.iter().find(|decl| decl.name == input)?;
        (!decl.ty.shape.is_empty()).then_some(&decl.kind)
    }

    /// The part that a node belongs to; of what stands between parts, none.
    fn part_of(&mut self, id: ValueId, branches: &[String]) -> Option<usize> {
        let node = &self.graph.nodes[id.index()];
        if let Op::Input { name } = &node.op
            && let Some(InputKind::View { view } | InputKind::Beside { view }) = self.kind_of(name)
        {
            let view = view.clone();
            return Some(self.part(&without_counts(&view), Kind::View, 0));
        }
        let scope = node.scope.clone();
        if let Some((module, kind)) = self.module(&scope) {
            let lane = self.lane_at(id);
            return Some(self.part(&module, kind, lane));
        }
        let mut names = scope.split('.').filter(|part| part.parse::<usize>().is_err());
        let lane = names.next().and_then(|first| branches.iter().position(|branch| branch == first))?;
        let name = names.next()?.to_owned();
        Some(self.part(&name, Kind::Value, lane))
    }

    /// The module of `model` that a scope lies in, and what its tensors are.
    fn module(&self, scope: &str) -> Option<(String, Kind)> {
        let copies = self.program.emas.iter().flat_map(|ema| &ema.pairs);
        let within = |name: &str| scope == name || scope.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let import = self.program.spec.imports.iter().find(|import| within(&import.alias));
        let mut parts = scope.split('.');
        let first = parts.next()?;
        let of_two = import.is_some() || self.program.emas.iter().any(|ema| ema.name == first);
        let name = match parts.next().filter(|_| of_two) {
            Some(second) => format!("{first}.{second}"),
            None => first.to_owned(),
        };
        let prefix = format!("{name}.");
        let tensors = || self.program.layout.tensors.iter().filter(|decl| decl.path.starts_with(&prefix));
        tensors().next()?;
        if copies.into_iter().any(|(copy, _)| copy.starts_with(&prefix)) {
            return Some((name, Kind::Copy));
        }
        let trained = tensors().filter(|decl| decl.kind == TensorKind::Trained).map(|decl| decl.elements()).sum();
        Some((name, if trained > 0 { Kind::Trained(trained) } else { Kind::Fixed }))
    }

    /// The branch that is computed at node `id`: that of the next value with a name, since branches stand one behind the other.
    fn lane_at(&self, id: ValueId) -> usize {
        let next = self.named.iter().filter(|(_, value)| *value >= id).min_by_key(|(_, value)| *value);
        let branch = next.and_then(|(name, _)| name.split('.').next());
        let lane = branch.and_then(|branch| self.sketch.lanes.iter().position(|lane| lane == branch));
        lane.unwrap_or(self.sketch.lanes.len() - 1)
    }

    fn part(&mut self, name: &str, kind: Kind, lane: usize) -> usize {
        let parts = &mut self.sketch.parts;
        let same = parts.iter().position(|part| part.name == name && part.lane == lane && part.kind == kind);
        same.unwrap_or_else(|| {
            parts.push(Part { name: name.to_owned(), kind, lane });
            parts.len() - 1
        })
    }

    /// What of `from` comes from other modules: what one branch computes by a module, another may share.
    fn outside(
        &self,
        from: &[Crossing],
        to: usize,
        boxed: &[Option<usize>],
        sources: &[Vec<Crossing>],
    ) -> Vec<Crossing> {
        let parts = &self.sketch.parts;
        let (mut found, mut left) = (Vec::new(), VecDeque::from(from.to_vec()));
        // Residual streams meet again and again: each node is gone through once.
        let mut seen: BTreeSet<Crossing> = left.iter().copied().collect();
        while let Some((at, gradient)) = left.pop_front() {
            let shared = boxed[at.index()].is_some_and(|source| {
                source != to && parts[source].name == parts[to].name && parts[source].kind == parts[to].kind
            });
            match shared && parts[to].kind != Kind::Value {
                true => left.extend(sources[at.index()].iter().copied().filter(|crossing| seen.insert(*crossing))),
                false => found.push((at, gradient)),
            }
        }
        found
    }

    fn flow(&mut self, from: &[Crossing], to: usize, boxed: &[Option<usize>]) {
        for (at, gradient) in from {
            let Some(source) = boxed[at.index()].filter(|source| *source != to) else { continue };
            let lane = self.sketch.lanes[self.sketch.parts[source].lane].clone();
            let names = self.named.iter().filter(|(_, value)| value == at).filter_map(|(name, _)| {
                let rest = name.strip_prefix(&lane)?.strip_prefix('.')?;
                Some(without_counts(rest))
            });
            // A value's box has its name, and its fields are what one expects to flow.
            let own = &self.sketch.parts[source].name;
            let name = names.min_by_key(String::len).filter(|name| name.split('.').next() != Some(own));
            let known = self.sketch.flows.iter().position(|flow| (flow.from, flow.to) == (source, to));
            let flow = match known {
                Some(known) => &mut self.sketch.flows[known],
                None => {
                    self.sketch.flows.push(Flow { from: source, to, names: Vec::new(), gradient: false });
                    self.sketch.flows.last_mut().expect("it was pushed just now")
                }
            };
            flow.gradient |= gradient;
            if let Some(name) = name.filter(|name| !flow.names.contains(name)) {
                flow.names.push(name);
            }
        }
    }

    fn follow(&mut self) {
        let mut pairs: BTreeMap<(String, String), String> = BTreeMap::new();
        for ema in &self.program.emas {
            let momentum = format!("{}", ema.momentum.at(0.0, 1.0, 2.0));
            for (copy, source) in &ema.pairs {
                let copy: Vec<&str> = copy.splitn(3, '.').collect();
                let source = source.split('.').next().unwrap_or(source);
                if let [first, second, ..] = copy[..] {
                    pairs.insert((source.to_owned(), format!("{first}.{second}")), momentum.clone());
                }
            }
        }
        for ((source, copy), momentum) in pairs {
            let parts = &self.sketch.parts;
            let from = parts.iter().position(|part| part.name == source && matches!(part.kind, Kind::Trained(_)));
            let copies = parts.iter().enumerate().filter(|(_, part)| part.name == copy).map(|(index, _)| index);
            if let Some(from) = from {
                let follows: Vec<Follow> = copies.map(|to| Follow { from, to, momentum: momentum.clone() }).collect();
                self.sketch.follows.extend(follows);
            }
        }
    }
}

/// `pair.0` is `pair`: views and branches of one kind are one part.
fn without_counts(name: &str) -> String {
    name.split('.').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".")
}
