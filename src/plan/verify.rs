//! Checks a plan against what the kernels that run it take for granted, after every planning: what is wrong with a plan is an
//! error before its first step, never a fault in the midst of one.
//!
//! Checked of each step: as many places as its work reads, each as long as its value, of its kind, within its arena and where
//! the target wants it; what it writes and works in overlaps nothing that it reads, but for the operand in place; chains keep
//! to the target's limits and leave one value; products and attention are what they are said to be; heads lie within their
//! values, and those written share no element. Of all steps in their order: each place that is read holds the value that is
//! meant, in the first run and in those after it, where constants are no longer computed; results are there at the end; the
//! gradient of each trained tensor is written, copied or zeroed once. What is stored in bf16, kernels write and read that can.

use std::collections::BTreeMap;
use std::ops::Range;

use super::arena::{LINE, Place, Space};
use super::base::{Base, bases};
use super::halves::{may_read, may_write};
use super::heads::{Heads, are_apart};
use super::step::{Copied, Plan, Step};
use super::target::{Rounds, Target};
use super::work::{Chain, Instruction, Work, is_constant, is_element_wise, is_product, space_of};
use crate::graph::{Graph, Layout, TensorKind, ValueId};
use crate::op::{Op, Type, shape};

/// All violations, one line each.
pub fn verify(plan: &Plan, layout: &Layout, target: &Target) -> Result<(), Vec<String>> {
    let bases = bases(&plan.graph);
    let mut faults = Vec::new();
    for (at, step) in plan.steps.iter().enumerate() {
        let checked = check_places(plan, layout, target, step).and_then(|()| check_work(&plan.graph, target, step));
        if let Err(fault) = checked {
            let node = plan.graph.node(step.node);
            faults.push(format!("step {at}, {} at {}: {fault}", node.op.name(), node.scope));
        }
    }
    if faults.is_empty() {
        let mut contents = Contents::new(&plan.graph, layout, &bases);
        for is_first in [true, false] {
            let steps = plan.steps.iter().enumerate().filter(|(_, step)| is_first || !step.once);
            let mut copies = plan.copies.iter().peekable();
            for (at, step) in steps {
                if let Err(fault) = contents.run(&plan.graph, step) {
                    faults.push(format!("step {at}: {fault}"));
                }
                while let Some(copied) = copies.next_if(|copied| copied.after <= at) {
                    contents.copy(copied);
                }
            }
            copies.for_each(|copied| contents.copy(copied));
            faults.extend(check_results(plan, layout, &mut contents).err());
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

type Checked = Result<(), String>;

fn ensure(holds: bool, fault: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(fault()) }
}

fn check_places(plan: &Plan, layout: &Layout, target: &Target, step: &Step) -> Checked {
    let graph = &plan.graph;
    let fits = |place: &Place| {
        let len = match place.space {
            Space::Params => layout.total_len,
            Space::Gradients => layout.trained_len,
            Space::Floats => plan.floats,
            Space::Halves => 2 * plan.floats,
            Space::SpareHalves => 2 * layout.trained_len.saturating_sub(LINE),
            Space::Ints => plan.ints,
        };
        place.start.checked_add(place.len).is_some_and(|end| end <= len)
    };
    let holds = |place: &Place, id: ValueId| {
        let is_ids = space_of(graph, id) == Space::Ints;
        place.len == graph.node(id).ty.elements() && (place.space == Space::Ints) == is_ids && !place.is_empty()
    };
    let is_aligned = |place: &Place| match place.space {
        Space::Params | Space::Gradients => true,
        Space::Floats | Space::Ints => place.start.is_multiple_of(target.alignment),
        Space::Halves | Space::SpareHalves => place.start.is_multiple_of(2 * target.alignment),
    };
    let values = step.work.reads(graph, step.node);
    ensure(values.len() == step.reads.len(), || format!("{} places for {} reads", step.reads.len(), values.len()))?;
    for (i, (place, id)) in step.reads.iter().zip(&values).enumerate() {
        ensure(fits(place) && holds(place, *id), || format!("reads %{} from {place}", id.0))?;
        let widens = !place.space.is_halves() || may_read(graph, &step.work, step.node, step.bf16, i);
        ensure(widens, || format!("takes no bf16 for operand {i}, which lies in {place}"))?;
    }
    let writes = &step.writes;
    let fitting = writes.space != Space::Params && fits(writes) && is_aligned(writes);
    ensure(fitting && holds(writes, step.node), || format!("writes {} values to {writes}", writes.len))?;
    let rounds = Rounds { operands: step.bf16, result: writes.space.is_halves() };
    let narrows = step.in_place.is_none() && may_write(graph, &step.work, step.node, step.bf16);
    ensure(!rounds.result || narrows, || format!("makes no bf16 for {writes}"))?;
    let (scratch, needed) = (&step.scratch, target.scratch_of(graph, &step.work, step.node, rounds));
    let may_work = scratch.space == Space::Floats && fits(scratch) && (needed == 0 || is_aligned(scratch));
    ensure(may_work && scratch.len == needed, || format!("works in {scratch}, needs {needed}"))?;
    for (i, read) in step.reads.iter().enumerate() {
        let replaced = step.in_place == Some(i) && read == writes;
        ensure(replaced || !read.overlaps(writes), || format!("writes {writes} and reads {read}"))?;
        ensure(!read.overlaps(scratch), || format!("works in {scratch} and reads {read}"))?;
    }
    ensure(!scratch.overlaps(writes), || format!("works in {scratch} and writes {writes}"))?;
    let (constant, once) = (is_constant(&graph.node(step.node).op), step.once);
    ensure(constant == once, || format!("once: {once}, of a constant: {constant}"))
}

fn check_work(graph: &Graph, target: &Target, step: &Step) -> Checked {
    let of = step.node;
    if let Some(i) = step.in_place {
        let replaced = match &step.work {
            Work::Chain(chain) => chain.operands.get(i).is_some_and(|operand| operand.pattern.is_none()),
            Work::Op | Work::Product { .. } | Work::Attention { .. } => false,
        };
        ensure(replaced, || format!("writes over operand {i}"))?;
    }
    match &step.work {
        Work::Op => {
            let has_kernel = match graph.node(of).op {
                Op::Param { .. }
                | Op::Reshape
                | Op::StopGradient
                | Op::Replicate { .. }
                | Op::AllGather { ranks: 1, .. }
                | Op::OwnRows { ranks: 1, .. }
                | Op::AllReduce { ranks: 1 }
                | Op::Attention { .. }
                | Op::AttentionGrad { .. } => false,
                _ => !is_element_wise(graph, of),
            };
            ensure(has_kernel, || "no kernel of its own".to_owned())
        }
        Work::Chain(chain) => check_chain(graph, target, chain, of),
        Work::Product { product, chain, at } => {
            let fits = is_product(&graph.node(*product).op)
                && graph.node(*product).ty.elements() == graph.node(of).ty.elements()
                && chain.operands.get(*at).is_some_and(|operand| operand.pattern.is_none());
            ensure(fits, || format!("%{} is no product that a chain goes over", product.0))?;
            check_chain(graph, target, chain, of)
        }
        Work::Attention { attention, reads, writes } => check_attention(graph, step, *attention, reads, writes),
    }
}

fn check_chain(graph: &Graph, target: &Target, chain: &Chain, of: ValueId) -> Checked {
    let (limits, elements) = (target.chains, graph.node(of).ty.elements());
    let (operands, ops) = (chain.operands.len(), chain.ops().count());
    let is_short = operands <= limits.operands && chain.depth <= limits.depth && ops <= limits.ops;
    ensure(is_short, || format!("a chain of {ops} ops, {operands} operands and {} values", chain.depth))?;
    for operand in &chain.operands {
        let found = graph.node(operand.value).ty.elements();
        let fits = match operand.pattern {
            None => found == elements,
            Some(pattern) => pattern.each > 0 && pattern.period == found,
        };
        ensure(fits, || format!("a chain over {elements} values takes %{} of {found}", operand.value.0))?;
    }
    let mut height: usize = 0;
    for instruction in &chain.code {
        let (takes, fits) = match instruction {
            Instruction::Load(operand) => (0, *operand < operands),
            Instruction::Constant(_) => (0, true),
            Instruction::Apply(op) => (shape::arity(op).0, op.is_element_wise()),
        };
        ensure(fits && takes <= height, || format!("a chain cannot compute {instruction:?} with {height} values"))?;
        height = height - takes + 1;
        ensure(height <= chain.depth, || format!("a chain of {} values has {height}", chain.depth))?;
    }
    // The last op writes where the chain does.
    let ends = height == 1 && matches!(chain.code.last(), Some(Instruction::Apply(_)));
    ensure(ends, || format!("a chain leaves {height} values"))
}

fn check_attention(
    graph: &Graph,
    step: &Step,
    attention: ValueId,
    reads: &[(ValueId, Heads)],
    writes: &[Heads],
) -> Checked {
    let node = graph.node(attention);
    let (operands, results): (usize, &[usize]) = match node.op {
        Op::Attention { .. } => (3, &[0]),
        Op::AttentionGrad { .. } => (4, &[0, 1, 2]),
        _ => return Err(format!("%{} is no attention", attention.0)),
    };
    let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
    let counted = node.inputs.len() >= operands && reads.len() == operands && writes.len() == results.len();
    ensure(counted, || format!("attention on {} operands to {} results", reads.len(), writes.len()))?;
    for (i, (place, (_, heads))) in step.reads.iter().zip(reads).enumerate() {
        ensure(heads.end(shape(i)) <= place.len, || format!("{heads:?} of {:?} reach beyond {place}", shape(i)))?;
    }
    let written: Vec<(Heads, &[usize])> = writes.iter().zip(results).map(|(heads, i)| (*heads, shape(*i))).collect();
    // A bias's gradient lies behind those of the operands, in a value of its own.
    let bias = if results.len() > 1 && node.inputs.len() > operands { shape(operands).iter().product() } else { 0 };
    let end = step.writes.len.checked_sub(bias);
    let within = end.is_some_and(|end| written.iter().all(|(heads, shape)| heads.end(shape) <= end));
    ensure(within, || format!("heads reach beyond {}", step.writes))?;
    ensure(bias == 0 || attention == step.node, || "the bias's gradient is moved".to_owned())?;
    ensure(are_apart(&written), || "heads that are written share elements".to_owned())
}

/// Which value lies where, as steps go by.
struct Contents<'a> {
    layout: &'a Layout,
    bases: &'a [Base],
    /// Of each arena, by first element: the end, whose value it is, and from which element of it on. Parts of values that others
    /// have written over are cut away.
    held: [BTreeMap<usize, (usize, ValueId, usize)>; 5],
}

impl<'a> Contents<'a> {
    fn new(graph: &Graph, layout: &'a Layout, bases: &'a [Base]) -> Self {
        debug_assert_eq!(graph.nodes.len(), bases.len(), "one base for each node");
        Contents { layout, bases, held: Default::default() }
    }

    fn arena(&mut self, space: Space) -> Option<&mut BTreeMap<usize, (usize, ValueId, usize)>> {
        match space {
            Space::Params => None,
            Space::Gradients => Some(&mut self.held[0]),
            Space::Floats => Some(&mut self.held[1]),
            Space::Ints => Some(&mut self.held[2]),
            Space::Halves => Some(&mut self.held[3]),
            Space::SpareHalves => Some(&mut self.held[4]),
        }
    }

    /// Whatever `place` held is gone, and what lay there in the other of two precisions.
    fn clear(&mut self, place: Place) {
        self.clear_elements(place);
        let Range { start, end } = place.lies();
        let (space, start, end) = match place.space {
            Space::Halves | Space::SpareHalves => (place.space.of_floats(), start, end),
            Space::Floats => (Space::Halves, 2 * start, 2 * end),
            Space::Gradients => (Space::SpareHalves, 2 * start.saturating_sub(LINE), 2 * end),
            Space::Params | Space::Ints => return,
        };
        self.clear_elements(Place { space, start, len: end - start });
    }

    fn clear_elements(&mut self, place: Place) {
        let (start, end) = (place.start, place.start + place.len);
        let Some(arena) = self.arena(place.space).filter(|_| start < end) else { return };
        if let Some((&first, &(last, id, offset))) = arena.range(..start).next_back()
            && last > start
        {
            arena.insert(first, (start, id, offset));
            if last > end {
                arena.insert(end, (last, id, offset + end - first));
            }
        }
        while let Some((&first, &(last, id, offset))) = arena.range(start..end).next() {
            arena.remove(&first);
            if last > end {
                arena.insert(end, (last, id, offset + end - first));
            }
        }
    }

    fn write(&mut self, id: ValueId, place: Place) {
        self.clear(place);
        if let Some(arena) = self.arena(place.space) {
            arena.insert(place.start, (place.start + place.len, id, 0));
        }
    }

    /// What is copied from where nothing is known to lie is nothing.
    fn copy(&mut self, copied: &Copied) {
        let Copied { from, to, .. } = *copied;
        let held = self.arena(from.space).and_then(|arena| arena.range(..=from.start).next_back());
        let held = held.map(|(first, (last, id, offset))| (*last, *id, offset + (from.start - first)));
        self.clear(to);
        if let (Some((last, id, offset)), Some(arena)) = (held, self.arena(to.space))
            && from.start + from.len <= last
            && from.len == to.len
            && !from.overlaps(&to)
        {
            arena.insert(to.start, (to.start + to.len, id, offset));
        }
    }

    /// Whether `place` holds the value `id`.
    fn holds(&mut self, graph: &Graph, id: ValueId, place: Place) -> Checked {
        let base = self.bases[id.index()];
        let found = match (&graph.node(base.node).op, place.space) {
            (Op::Param { path }, Space::Params) => {
                let start = self.layout.get(path).map(|(_, range)| range.start);
                start.map(|start| start + base.start) == Some(place.start)
            }
            (Op::Param { .. }, _) | (_, Space::Params) => false,
            (_, space) => {
                let arena = self.arena(space).and_then(|arena| arena.range(..=place.start).next_back());
                arena.is_some_and(|(first, (last, held, offset))| {
                    *held == base.node
                        && place.start + place.len <= *last
                        && offset + (place.start - first) == base.start
                })
            }
        };
        ensure(found, || format!("{place} does not hold %{}", id.0))
    }

    fn run(&mut self, graph: &Graph, step: &Step) -> Checked {
        for (id, place) in step.work.reads(graph, step.node).into_iter().zip(&step.reads) {
            self.holds(graph, id, *place)?;
        }
        self.clear(step.scratch);
        self.write(step.node, step.writes);
        Ok(())
    }
}

/// Results lie where the plan says, constants where the next run reads them, and each gradient is given once.
fn check_results(plan: &Plan, layout: &Layout, contents: &mut Contents) -> Checked {
    let graph = &plan.graph;
    for id in graph.results_but_gradients() {
        let place = plan.places[id.index()].ok_or_else(|| format!("the result %{} has no place", id.0))?;
        ensure(place.len == graph.node(id).ty.elements(), || format!("{place} holds more than %{}", id.0))?;
        contents.holds(graph, id, place)?;
    }
    for step in plan.steps.iter().filter(|step| step.once) {
        contents.holds(graph, step.node, step.writes)?;
    }
    let trained = layout.tensors.iter().enumerate().filter(|(_, decl)| decl.kind == TensorKind::Trained);
    for (index, decl) in trained {
        let range = layout.range(index);
        let to = Place { space: Space::Gradients, start: range.start, len: range.len() };
        let copied = plan.copies.iter().filter(|copied| copied.to.overlaps(&to)).count();
        let zeroed = plan.zeros.iter().filter(|place| place.overlaps(&to)).count();
        let id = graph.gradients.iter().find(|(path, _)| *path == decl.path).map(|(_, id)| *id);
        let path = &decl.path;
        match id {
            None => {
                let once = (copied, zeroed) == (0, 1) && plan.zeros.contains(&to);
                ensure(once, || format!("no gradient of `{path}` is zeroed"))?;
            }
            Some(id) => {
                let times = copied + zeroed;
                ensure(times <= 1 && zeroed == 0, || format!("the gradient of `{path}` is given {times} times"))?;
                contents.holds(graph, id, to)?;
            }
        }
    }
    let ty = |id: &ValueId| &graph.node(*id).ty;
    let mut scalars = graph.losses.iter().chain(&graph.monitors).map(|(_, id)| id).chain(&graph.total);
    ensure(scalars.all(|id| *ty(id) == Type::float([])), || "a loss is no scalar".to_owned())
}
