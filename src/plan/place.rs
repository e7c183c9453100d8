//! Where each value lies, and from when to when.

use super::arena::{Arena, Fit, Place, Room, Space, lay_out};
use super::base::Base;
use super::step::{Copied, Held, Plan, Step};
use super::target::{Rounds, Target};
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

/// Where values lie that are no tensors and no gradients of them.
struct Arenas {
    floats: Arena,
    halves: Arena,
    ints: Arena,
}

impl Arenas {
    fn new(alignment: usize) -> Self {
        // Twice as many numbers of bf16 begin where as many floats would.
        Arenas { floats: Arena::new(alignment), halves: Arena::new(2 * alignment), ints: Arena::new(alignment) }
    }

    fn of(&mut self, space: Space) -> Option<&mut Arena> {
        match space {
            Space::Params | Space::Gradients | Space::SpareHalves => None,
            Space::Floats => Some(&mut self.floats),
            Space::Halves => Some(&mut self.halves),
            Space::Ints => Some(&mut self.ints),
        }
    }

    /// From step `at` on.
    fn take(&mut self, space: Space, len: usize, at: usize) -> Place {
        let start = self.of(space).map_or(0, |arena| arena.take(len, at).start);
        Place { space, start, len }
    }

    /// Not needed after step `at`; of a tensor or a gradient, and of nothing, nothing.
    fn give(&mut self, place: Place, at: usize) {
        if let Some(arena) = self.of(place.space).filter(|_| !place.is_empty()) {
            arena.give(place.start, at);
        }
    }

    /// Moves all places of `plan` to where they lie for good. What is done with before a gradient is written lies in its place, as what
    /// is kept of the first blocks does while the gradients of the last are computed.
    fn lay_out(&self, plan: &mut Plan, layout: &Layout) {
        let writes = plan.steps.iter().enumerate().filter(|(_, step)| step.writes.space == Space::Gradients);
        let written = writes.map(|(at, step)| (step.writes.range(), at));
        let copied = plan.copies.iter().map(|copied| (copied.to.range(), copied.after));
        let len = if plan.graph.gradients.is_empty() { 0 } else { layout.trained_len };
        let gradients = Room::new(len, written.chain(copied));
        let most = plan.most.step;
        let of_floats = [(&self.floats, Fit::FLOATS), (&self.halves, Fit::HALVES)];
        let ([floats, halves], of_floats) = lay_out(of_floats, &gradients, most);
        let ([ints], of_ints) = lay_out([(&self.ints, Fit::FLOATS)], &Room::default(), most);
        (plan.floats, plan.ints) = (of_floats, of_ints);
        let of_steps = plan.steps.iter_mut().flat_map(|step| {
            let Step { reads, writes, scratch, .. } = step;
            reads.iter_mut().chain([writes, scratch])
        });
        let copied = plan.copies.iter_mut().map(|copied| &mut copied.from);
        for place in of_steps.chain(plan.places.iter_mut().flatten()).chain(copied) {
            match place.space {
                // What works in nothing lies nowhere.
                _ if place.is_empty() => place.start = 0,
                Space::Params | Space::Gradients | Space::SpareHalves => {}
                Space::Floats => {
                    let spot = floats.at(place.start);
                    place.start = spot.start;
                    place.space = if spot.in_room { Space::Gradients } else { Space::Floats };
                }
                Space::Halves => {
                    let spot = halves.at(place.start);
                    place.start = spot.start;
                    place.space = if spot.in_room { Space::SpareHalves } else { Space::Halves };
                }
                Space::Ints => place.start = ints.at(place.start).start,
            }
        }
    }

    /// Floats that are not free, two numbers of bf16 for one.
    fn held(&self) -> usize {
        self.floats.held + self.halves.held / 2
    }
}

pub(super) fn place(
    graph: Graph,
    layout: &Layout,
    bases: &[Base],
    works: Vec<Option<Work>>,
    (rounded, halves): (&[bool], &[bool]),
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
    let mut arenas = Arenas::new(target.alignment);
    // Later runs read them from their first step on.
    for step in pending.iter().filter(|step| is_constant(&graph.node(step.node).op)) {
        let len = graph.node(step.node).ty.elements();
        placed[step.node.index()] = Some(arenas.take(space_of(&graph, step.node), len, 0));
    }
    // One place for what steps work in: it stays in the caches from one step to the next.
    let needed = |step: &Pending| {
        let rounds =
            Rounds { operands: rounded[step.work.kernel(step.node).index()], result: halves[step.node.index()] };
        target.scratch_of(&graph, &step.work, step.node, rounds)
    };
    let room = arenas.take(Space::Floats, pending.iter().map(needed).max().unwrap_or(0), 0);
    let scratches: Vec<Place> = pending.iter().map(|step| Place { len: needed(step), ..room }).collect();
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
                let space = if halves[step.node.index()] { Space::Halves } else { space_of(&graph, step.node) };
                in_place = in_place.filter(|_| space == Space::Floats);
                match in_place {
                    Some(read) => reads[read],
                    None => arenas.take(space, len, at),
                }
            }
        };
        placed[step.node.index()] = Some(writes);
        let bf16 = rounded[step.work.kernel(step.node).index()];
        let scratch = scratches[at];
        if arenas.held() > most.floats {
            most = Held { step: at, floats: arenas.held() };
        }
        let mut ended: Vec<usize> = step.reads.iter().map(|id| bases[id.index()].node.index()).collect();
        ended.push(step.node.index());
        ended.sort_unstable();
        ended.dedup();
        let overwritten = in_place.map(|read| bases[step.reads[read].index()].node.index());
        for base in ended.into_iter().filter(|base| last[*base] == at && Some(*base) != overwritten) {
            placed[base].into_iter().for_each(|place| arenas.give(place, at));
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
                // A tensor or a constant is there before the first step, and after the last.
                let made = steps.iter().position(|step| step.node == bases[id.index()].node);
                let after = made.unwrap_or(steps.len().saturating_sub(1));
                if from != to {
                    copies.push(Copied { after, from, to });
                }
            }
        }
    }
    copies.sort_by_key(|copied| copied.after);
    let places = (0..graph.nodes.len() as u32)
        .map(|id| {
            let base = bases[id as usize].node;
            placed[base.index()].map(|_| read(&graph, bases, &placed, ValueId(id)))
        })
        .collect();
    let mut plan = Plan { graph, steps, places, floats: 0, ints: 0, most, copies, zeros };
    arenas.lay_out(&mut plan, layout);
    plan
}

/// The part of its base's place that a value is.
fn read(graph: &Graph, bases: &[Base], placed: &[Option<Place>], id: ValueId) -> Place {
    let base = bases[id.index()];
    let place = placed[base.node.index()].expect("operands are placed before their readers");
    Place { space: place.space, start: place.start + base.start, len: graph.node(id).ty.elements() }
}

/// The last step that reads each base; a base that none reads ends with its own step, as gradients do, which are copied then; other results
/// never end.
fn last_reads(graph: &Graph, bases: &[Base], steps: &[Pending]) -> Vec<usize> {
    let mut last = vec![0; graph.nodes.len()];
    for (at, step) in steps.iter().enumerate() {
        last[step.node.index()] = at;
        step.reads.iter().for_each(|id| last[bases[id.index()].node.index()] = at);
    }
    graph.results_but_gradients().for_each(|id| last[bases[id.index()].node.index()] = FOR_EVER);
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
