//! Where each value lies, and from when to when.

use std::fmt;
use std::ops::Range;

use super::fuse::Fused;
use super::{Plan, Scratch, Step, Work, is_constant, space_of};
use crate::graph::{Graph, Layout, Node, ValueId};
use crate::op::Op;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The caller's tensors, which a run only reads.
    Params,
    /// The caller's gradients.
    Gradients,
    Floats,
    Ints,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub space: Space,
    pub start: usize,
    pub len: usize,
}

impl Place {
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn overlaps(&self, other: &Place) -> bool {
        let (a, b) = (self.range(), other.range());
        self.space == other.space && a.start < b.end && b.start < a.end
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = match self.space {
            Space::Params => "param",
            Space::Gradients => "gradient",
            Space::Floats => "f",
            Space::Ints => "i",
        };
        write!(f, "{space}[{}..{}]", self.start, self.start + self.len)
    }
}

/// How many floats of an arena are values that are still needed, or a step's scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Index of the step that runs then.
    pub step: usize,
    pub floats: usize,
}

/// The node whose place a value lies in, and from which element of it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    pub node: ValueId,
    pub start: usize,
}

/// Of each node: itself, or the operand that it gives on unmoved.
pub(super) fn bases(graph: &Graph) -> Vec<Base> {
    let mut bases: Vec<Base> = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
        let start = match &node.op {
            Op::Reshape | Op::AllGather | Op::StopGradient => Some(0),
            Op::Slice { axis, start, .. } if shape(0)[..*axis].iter().all(|d| *d == 1) => {
                Some(start * shape(0)[axis + 1..].iter().product::<usize>())
            }
            Op::Permute { axes } => {
                let moved: Vec<usize> = axes.iter().copied().filter(|a| shape(0)[*a] != 1).collect();
                moved.is_sorted().then_some(0)
            }
            Op::Concat { axis } => joined(graph, &bases, node, *axis),
            Op::Broadcast => (shape(0).iter().product::<usize>() == node.ty.elements()).then_some(0),
            Op::Sum { axes, .. } | Op::Mean { axes, .. } => axes.iter().all(|a| shape(0)[*a] == 1).then_some(0),
            _ => None,
        };
        bases.push(match start {
            Some(start) => {
                let of = bases[node.inputs[0].index()];
                Base { node: of.node, start: of.start + start }
            }
            None => Base { node: ValueId(index as u32), start: 0 },
        });
    }
    bases
}

/// Parts of one value put together again, in their order.
fn joined(graph: &Graph, bases: &[Base], node: &Node, axis: usize) -> Option<usize> {
    let parts = node.inputs.iter().map(|id| (bases[id.index()], graph.node(*id).ty.elements()));
    let outer: usize = node.ty.shape[..axis].iter().product();
    let first = bases[node.inputs[0].index()];
    let mut end = first.start;
    for (base, len) in parts {
        if outer != 1 || base != (Base { node: first.node, start: end }) {
            return None;
        }
        end += len;
    }
    Some(0)
}

/// 64 bytes of f32: places begin at the start of a cache line and of the widest vector.
const ALIGNMENT: usize = 16;

/// Free ranges of an arena that grows when none fits.
#[derive(Default)]
struct Arena {
    /// In ascending order, never side by side.
    free: Vec<Range<usize>>,
    len: usize,
    /// Elements that are not free.
    held: usize,
}

impl Arena {
    fn take(&mut self, len: usize) -> Range<usize> {
        let len = len.next_multiple_of(ALIGNMENT);
        self.held += len;
        let fits = self.free.iter().enumerate().filter(|(_, range)| range.len() >= len);
        if let Some((at, _)) = fits.min_by_key(|(_, range)| range.len()) {
            let start = self.free[at].start;
            self.free[at].start += len;
            if self.free[at].is_empty() {
                self.free.remove(at);
            }
            return start..start + len;
        }
        // The last range, if it reaches the end, grows by what it lacks.
        let start = match self.free.last() {
            Some(last) if last.end == self.len => self.free.pop().map_or(self.len, |last| last.start),
            _ => self.len,
        };
        self.len = start + len;
        start..start + len
    }

    fn give(&mut self, range: Range<usize>) {
        let end = range.start + range.len().next_multiple_of(ALIGNMENT);
        self.held -= end - range.start;
        let at = self.free.partition_point(|free| free.start < range.start);
        self.free.insert(at, range.start..end);
        if at + 1 < self.free.len() && self.free[at].end == self.free[at + 1].start {
            self.free[at].end = self.free.remove(at + 1).end;
        }
        if at > 0 && self.free[at - 1].end == self.free[at].start {
            self.free[at - 1].end = self.free.remove(at).end;
        }
    }
}

/// A step before it has places.
struct Pending {
    node: ValueId,
    work: Work,
    /// Values read, under the names by which they are read.
    reads: Vec<ValueId>,
}

const FOR_EVER: usize = usize::MAX;

pub(super) fn place(
    graph: Graph,
    layout: &Layout,
    bases: &[Base],
    works: Vec<Fused>,
    rounded: &[bool],
    scratch: Scratch,
) -> Plan {
    let mut pending = Vec::new();
    for (index, work) in works.into_iter().enumerate() {
        let node = ValueId(index as u32);
        match work {
            Fused::Nothing => {}
            Fused::Op => pending.push(Pending { node, work: Work::Op, reads: graph.node(node).inputs.clone() }),
            Fused::Chain(chain) => {
                let reads = chain.operands.iter().map(|operand| operand.value).collect();
                pending.push(Pending { node, work: Work::Chain(chain), reads });
            }
            Fused::Product { product, chain, at } => {
                let others = chain.operands.iter().enumerate().filter(|(i, _)| *i != at);
                let mut reads = graph.node(product).inputs.clone();
                reads.extend(others.map(|(_, operand)| operand.value));
                pending.push(Pending { node, work: Work::Product { product, chain, at }, reads });
            }
            Fused::Attention { attention, reads, writes } => {
                let bias = graph.node(attention).inputs.get(reads.len()).copied();
                let values = reads.iter().map(|(value, _)| *value).chain(bias).collect();
                let reads = reads.into_iter().map(|(_, heads)| heads).collect();
                pending.push(Pending { node, work: Work::Attention { attention, reads, writes }, reads: values });
            }
        }
    }
    let last = last_reads(&graph, bases, &pending);
    let mut placed = vec![None; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Op::Param { path } = &node.op
            && let Some((_, range)) = layout.get(path)
        {
            placed[index] = Some(Place { space: Space::Params, start: range.start, len: range.len() });
        }
    }
    let direct = direct_gradients(&graph, layout, bases, &pending);
    let (mut floats, mut ints) = (Arena::default(), Arena::default());
    // Values that keep their place are laid out first, where no freed range is cut by them.
    for step in pending.iter().filter(|step| is_constant(&graph.node(step.node).op)) {
        let arena = if space_of(&graph, step.node) == Space::Ints { &mut ints } else { &mut floats };
        let len = graph.node(step.node).ty.elements();
        placed[step.node.index()] =
            Some(Place { space: space_of(&graph, step.node), start: arena.take(len).start, len });
    }
    let mut steps = Vec::with_capacity(pending.len());
    let mut most = Held::default();
    for (at, step) in pending.into_iter().enumerate() {
        let node = graph.node(step.node);
        let len = node.ty.elements();
        let reads: Vec<Place> = step.reads.iter().map(|id| read(&graph, bases, &placed, *id)).collect();
        let mut in_place = None;
        let writes = match (placed[step.node.index()], direct[step.node.index()]) {
            (Some(place), _) | (None, Some(place)) => place,
            (None, None) => {
                in_place = replaceable(&graph, bases, &placed, &last, &step, at);
                match (in_place, space_of(&graph, step.node)) {
                    (Some(read), _) => reads[read],
                    (None, space) => {
                        let arena = if space == Space::Ints { &mut ints } else { &mut floats };
                        Place { space, start: arena.take(len).start, len }
                    }
                }
            }
        };
        placed[step.node.index()] = Some(writes);
        let kernel = step.work.kernel().unwrap_or(step.node);
        let bf16 = rounded[kernel.index()];
        let needed = if matches!(step.work, Work::Chain(_)) { 0 } else { scratch(&graph, kernel, bf16) };
        let scratch = match needed {
            0 => Place { space: Space::Floats, start: 0, len: 0 },
            len => Place { space: Space::Floats, start: floats.take(len).start, len },
        };
        if floats.held > most.floats {
            most = Held { step: at, floats: floats.held };
        }
        if !scratch.is_empty() {
            floats.give(scratch.range());
        }
        let mut ended: Vec<usize> = step.reads.iter().map(|id| bases[id.index()].node.index()).collect();
        ended.push(step.node.index());
        ended.sort_unstable();
        ended.dedup();
        let overwritten = in_place.map(|read| bases[step.reads[read].index()].node.index());
        for base in ended.into_iter().filter(|base| last[*base] == at && Some(*base) != overwritten) {
            match placed[base] {
                Some(Place { space: Space::Floats, start, len }) => floats.give(start..start + len),
                Some(Place { space: Space::Ints, start, len }) => ints.give(start..start + len),
                _ => {}
            }
        }
        let once = is_constant(&node.op);
        steps.push(Step { node: step.node, work: step.work, reads, writes, scratch, in_place, bf16, once });
    }
    let (mut copies, mut zeros) = (Vec::new(), Vec::new());
    for (index, decl) in layout.tensors.iter().enumerate().take(layout.trained()) {
        let range = layout.range(index);
        let to = Place { space: Space::Gradients, start: range.start, len: range.len() };
        match graph.gradients.iter().find(|(path, _)| *path == decl.path) {
            None => zeros.push(to),
            Some((_, id)) => {
                let from = read(&graph, bases, &placed, *id);
                if from != to {
                    copies.push((from, to));
                }
            }
        }
    }
    let places = (0..graph.nodes.len() as u32)
        .map(|id| {
            let base = bases[id as usize].node;
            placed[base.index()].map(|_| read(&graph, bases, &placed, ValueId(id)))
        })
        .collect();
    Plan { graph, steps, places, floats: floats.len, ints: ints.len, most, copies, zeros }
}

/// The part of its base's place that a value is.
fn read(graph: &Graph, bases: &[Base], placed: &[Option<Place>], id: ValueId) -> Place {
    let base = bases[id.index()];
    let place = placed[base.node.index()].expect("operands are placed before their readers");
    Place { space: place.space, start: place.start + base.start, len: graph.node(id).ty.elements() }
}

/// The last step that reads each base; a base that none reads ends with its own step, results never.
fn last_reads(graph: &Graph, bases: &[Base], steps: &[Pending]) -> Vec<usize> {
    let mut last = vec![0; graph.nodes.len()];
    for (at, step) in steps.iter().enumerate() {
        last[step.node.index()] = at;
        step.reads.iter().for_each(|id| last[bases[id.index()].node.index()] = at);
    }
    let named = [&graph.losses, &graph.monitors, &graph.updates, &graph.outputs, &graph.gradients];
    for id in named.into_iter().flatten().map(|(_, id)| *id).chain(graph.total) {
        last[bases[id.index()].node.index()] = FOR_EVER;
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        if is_constant(&node.op) {
            last[index] = FOR_EVER;
        }
    }
    last
}

/// The caller's range, for values that are a gradient and are computed by a step of their own.
fn direct_gradients(graph: &Graph, layout: &Layout, bases: &[Base], steps: &[Pending]) -> Vec<Option<Place>> {
    let mut direct = vec![None; graph.nodes.len()];
    let mut computed = vec![false; graph.nodes.len()];
    for step in steps {
        computed[step.node.index()] = !is_constant(&graph.node(step.node).op);
    }
    for (path, id) in &graph.gradients {
        let base = bases[id.index()];
        let Some((_, range)) = layout.get(path) else { continue };
        let fits = base.start == 0 && graph.node(base.node).ty.elements() == range.len();
        let slot = &mut direct[base.node.index()];
        if fits && computed[base.node.index()] && slot.is_none() {
            *slot = Some(Place { space: Space::Gradients, start: range.start, len: range.len() });
        }
    }
    direct
}

/// The read that an element-wise step may write over: a whole value that nothing reads afterwards, and that the step reads
/// under no second name.
fn replaceable(
    graph: &Graph,
    bases: &[Base],
    placed: &[Option<Place>],
    last: &[usize],
    step: &Pending,
    at: usize,
) -> Option<usize> {
    let Work::Chain(chain) = &step.work else { return None };
    let len = graph.node(step.node).ty.elements();
    let base_of = |id: ValueId| bases[id.index()].node;
    (0..chain.operands.len()).find(|i| {
        let operand = &chain.operands[*i];
        let base = base_of(operand.value);
        let others = step.reads.iter().enumerate().any(|(j, id)| j != *i && base_of(*id) == base);
        let lies = placed[base.index()].is_some_and(|place| place.space == Space::Floats && place.len == len);
        operand.pattern.is_none() && lies && !others && last[base.index()] == at
    })
}
