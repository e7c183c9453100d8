//! What the masks of a graph come to: a ratio asked for is cut to whole groups and patches.

use std::fmt;

use super::Graph;

/// One mask of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masking {
    /// Such as `online.mask`.
    pub name: String,
    pub visible: usize,
    pub patches: usize,
    /// Groups that are kept or removed as one; as many as patches where each stands for itself.
    pub groups: usize,
}

/// The masks among the graph's outputs: records of `ids_keep` `[B, V]` and `mask` `[B, N]`, as `std::masks` makes them.
pub fn maskings(graph: &Graph) -> Vec<Masking> {
    let columns = |name: &str| graph.output(name).and_then(|id| graph.node(id).ty.shape.get(1).copied());
    let mut found = Vec::new();
    for (output, _) in &graph.outputs {
        let Some(name) = output.strip_suffix(".ids_keep") else { continue };
        if let (Some(visible), Some(patches)) = (columns(output), columns(&format!("{name}.mask"))) {
            let noise = format!("{name}.noise");
            let drawn = graph.inputs.iter().find(|input| input.name == noise);
            let groups = drawn.and_then(|input| input.ty.shape.get(1).copied()).unwrap_or(patches);
            found.push(Masking { name: name.to_owned(), visible, patches, groups });
        }
    }
    found
}

impl fmt::Display for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Masking { name, visible, patches, groups } = self;
        write!(f, "{name}: {visible} of {patches} patches visible")?;
        if groups != patches {
            write!(f, " in {} of {groups} groups", visible * groups / patches)?;
        }
        write!(f, ", {:.1} % removed", 100.0 * (1.0 - *visible as f64 / *patches as f64))
    }
}
