//! Where each value lies, and from when to when.

use super::arena::{Arena, Place, Space};
use super::base::Base;
use super::step::{Held, Plan, Step};
use super::target::Target;
use super::work::{Work, is_constant, space_of};
use crate::graph::{Graph, Layout, ValueId};
use crate::op::Op;

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
    works: Vec<Option<Work>>,
    rounded: &[bool],
    target: &Target,
) -> Plan {
    let works = works.into_iter().zip(0..).filter_map(|(work, id)| Some((ValueId(id), work?)));
    let pending: Vec<Pending> = works
        .map(|(node, work)| {
            let reads = work.reads(&graph, node);
            Pending { node, work, reads }
        })
        .collect();
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
    let (mut floats, mut ints) = (Arena::new(target.alignment), Arena::new(target.alignment));
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
        let kernel = step.work.kernel(step.node);
        let bf16 = rounded[kernel.index()];
        let needed = target.scratch_of(&graph, &step.work, step.node, bf16);
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
    graph.results().for_each(|id| last[bases[id.index()].node.index()] = FOR_EVER);
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
