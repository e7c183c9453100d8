//! Which masks of a training graph hide patches of which view, and the graph that makes them.
//!
//! Before: `build` has named the values of branches. After: `eval::hidden` runs the graph, and contact sheets show what is hidden.
//!
//! **Invariant:** a mask found here hangs on what each sample brings, and on nothing else: no tensor, no picture, no number of a step. So
//! it is what the loader's sample is masked by, whatever the weights are.

use std::collections::BTreeSet;

use super::prune::prune;
use super::{Graph, InputKind, ValueId};
use crate::op::Op;

/// A mask and the view that it hides patches of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hiding {
    /// Such as `online.mask`.
    pub name: String,
    /// Output of the graph: `[B, N]`, 1 where removed; or, with `of_kept`, ids `[B, V]`.
    pub output: String,
    pub view: String,
    /// Rows and columns of patches.
    pub grid: (usize, usize),
    /// The output lists the patches that are left, not those that are hidden.
    pub of_kept: bool,
}

/// The masks that can be shown, and the names of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidings {
    pub shown: Vec<Hiding>,
    pub others: Vec<String>,
}

/// What a value hangs on.
#[derive(Clone, Default)]
struct Roots {
    /// Places among the graph's inputs.
    inputs: BTreeSet<usize>,
    tensors: bool,
}

/// The masks among the outputs of `graph`: `mask` as `std::masks` makes it, or `ids_keep` where a record has no `mask`.
pub fn hidings(graph: &Graph) -> Hidings {
    let roots = roots(graph);
    let mut found = Hidings::default();
    let mut seen = BTreeSet::new();
    for (output, id) in &graph.outputs {
        let (name, of_kept) = match (output.strip_suffix(".mask"), output.strip_suffix(".ids_keep")) {
            // `online.mask` may itself be the mask, where no function made a record of it.
            (Some(record), _) if record.contains('.') => (record, false),
            (Some(_), _) => (output.as_str(), false),
            (None, Some(record)) if graph.output(&format!("{record}.mask")).is_none() => (record, true),
            _ => continue,
        };
        if graph.node(*id).ty.shape.len() != 2 || !seen.insert(id.index()) {
            continue;
        }
        match placed(graph, &roots, *id, of_kept) {
            Some((view, grid)) => {
                let (name, output) = (name.to_owned(), output.clone());
                found.shown.push(Hiding { name, output, view, grid, of_kept });
            }
            None => found.others.push(name.to_owned()),
        }
    }
    found
}

/// The nodes of `graph` that make `outputs`, and no losses.
pub fn of_outputs(graph: &Graph, outputs: &[String]) -> Graph {
    let outputs = graph.outputs.iter().filter(|(name, _)| outputs.contains(name)).cloned().collect();
    let bare = Graph { nodes: graph.nodes.clone(), inputs: graph.inputs.clone(), outputs, ..Graph::default() };
    prune(&bare)
}

fn roots(graph: &Graph) -> Vec<Roots> {
    let mut all: Vec<Roots> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        // Operands have smaller ids.
        let mut roots = Roots::default();
        for operand in &node.inputs {
            let of = &all[operand.index()];
            roots.inputs.extend(&of.inputs);
            roots.tensors |= of.tensors;
        }
        match &node.op {
            Op::Input { name } => roots.inputs.extend(graph.inputs.iter().position(|input| input.name == *name)),
            op => roots.tensors |= matches!(op, Op::Param { .. }),
        }
        all.push(roots);
    }
    all
}

/// The view whose patches the mask `id` hides, and its grid; `None` where that is not one view, or where the mask hangs on more than a
/// sample brings.
fn placed(graph: &Graph, roots: &[Roots], id: ValueId, of_kept: bool) -> Option<(String, (usize, usize))> {
    let mask = &roots[id.index()];
    let kind = |input: &usize| &graph.inputs[*input].kind;
    let brought =
        |input: &usize| matches!(kind(input), InputKind::Noise | InputKind::BlockMask(_) | InputKind::MultiBlock(_));
    if mask.tensors || mask.inputs.is_empty() || !mask.inputs.iter().all(brought) {
        return None;
    }
    let views_of = |value: &ValueId| {
        let views = roots[value.index()].inputs.iter().filter(|input| matches!(kind(input), InputKind::View { .. }));
        views.copied().collect::<Vec<_>>()
    };
    let is_masked = |value: &ValueId| !roots[value.index()].inputs.is_disjoint(&mask.inputs);
    // The first value at which mask and picture meet is the encoder's: losses come after it.
    let met = graph.nodes.iter().find_map(|node| {
        let by_mask = |value: &&ValueId| is_masked(value) && views_of(value).is_empty();
        node.inputs.iter().find(by_mask)?;
        let views =
            node.inputs.iter().filter(|value| !is_masked(value)).map(views_of).find(|views| !views.is_empty())?;
        Some(views)
    })?;
    let [view] = met[..] else { return None };
    let InputKind::View { view: name } = kind(&view) else { return None };
    let [_, _, height, width] = graph.inputs[view].ty.shape[..] else { return None };
    let grid = match mask.inputs.iter().map(kind).find(|kind| !matches!(kind, InputKind::Noise)) {
        Some(InputKind::BlockMask(blocks)) => (blocks.rows, blocks.columns),
        Some(InputKind::MultiBlock(blocks)) => (blocks.rows, blocks.columns),
        // Ids alone do not tell how many patches there are.
        _ if of_kept => return None,
        _ => square_patches(height, width, graph.node(id).ty.shape[1])?,
    };
    let fits = grid.0 > 0 && grid.1 > 0 && height % grid.0 == 0 && width % grid.1 == 0;
    let is_whole = of_kept || graph.node(id).ty.shape[1] == grid.0 * grid.1;
    (fits && is_whole).then(|| (name.clone(), grid))
}

/// Rows and columns of `patches` square patches that cover a picture.
fn square_patches(height: usize, width: usize, patches: usize) -> Option<(usize, usize)> {
    let side = (height * width).checked_div(patches)?.isqrt();
    let grid = (height.checked_div(side)?, width.checked_div(side)?);
    (grid.0 * grid.1 == patches).then_some(grid)
}

#[cfg(test)]
mod tests {
    use super::square_patches;

    #[test]
    fn patches_are_square_or_not_placed() {
        assert_eq!(square_patches(224, 224, 196), Some((14, 14)));
        assert_eq!(square_patches(32, 64, 8), Some((2, 4)));
        assert_eq!(square_patches(16, 16, 5), None);
        assert_eq!(square_patches(16, 16, 0), None);
        assert_eq!(square_patches(2, 2, 9), None);
    }
}
