//! What a picture's patches become on the way to the features, and the last attention among them.
//!
//! Before: `build` has typed the graph of features. After: `eval::looks` runs it once more with these as its outputs, and draws them.
//!
//! **Invariant:** they are found by shapes and ops alone, whatever a pipeline calls its modules.

use super::{Graph, InputKind, ValueId};
use crate::op::{DType, Op};

/// Fewer patches are no picture.
const FEWEST: usize = 4;
/// Tokens that may stand before the patches: a class token, registers.
const MOST_BEFORE: usize = 16;

/// How a row of tokens lies over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Rows and columns.
    pub grid: (usize, usize),
    /// Tokens before those of the patches.
    pub before: usize,
}

/// Features of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// `[B, N, D]`.
    pub value: ValueId,
    pub patches: Patches,
}

/// Self-attention among the tokens of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Queries and keys, `[B, h, N, d]`.
    pub operands: [ValueId; 2],
    /// `[h, N, N]`.
    pub bias: Option<ValueId>,
    pub scale: f64,
    pub patches: Patches,
}

impl Patches {
    /// Of `tokens` over a picture of this height and width: its patches are squares, and as many tokens before them as must be.
    pub fn of(tokens: usize, (height, width): (usize, usize)) -> Option<Patches> {
        (0..=MOST_BEFORE).find_map(|before| {
            let patches = tokens.checked_sub(before).filter(|count| *count >= FEWEST)?;
            let side = (height * width / patches).isqrt();
            let fits = side > 0 && height.is_multiple_of(side) && width.is_multiple_of(side);
            let grid = fits.then(|| (height / side, width / side))?;
            (grid.0 * grid.1 == patches).then_some(Patches { grid, before })
        })
    }
}

impl Graph {
    /// Height and width of the first view that the graph takes in.
    fn picture_size(&self) -> Option<(usize, usize)> {
        let view = self.inputs.iter().find(|input| matches!(input.kind, InputKind::View { .. }))?;
        let &[_, _, height, width] = &view.ty.shape[..] else { return None };
        Some((height, width))
    }

    /// The nodes that the output `features` is made of, the last first.
    fn behind_features(&self) -> Vec<ValueId> {
        let Some(features) = self.output("features") else { return Vec::new() };
        let mut is_behind = vec![false; self.nodes.len()];
        is_behind[features.index()] = true;
        for at in (0..self.nodes.len()).rev().filter(|at| *at <= features.index()) {
            if is_behind[at] {
                self.nodes[at].inputs.iter().for_each(|input| is_behind[input.index()] = true);
            }
        }
        (0..self.nodes.len() as u32).rev().map(ValueId).filter(|id| is_behind[id.index()]).collect()
    }

    /// The last values of the patches that the features are made of.
    pub fn tokens_of_features(&self) -> Option<Tokens> {
        let size = self.picture_size()?;
        self.behind_features().into_iter().find_map(|value| {
            let ty = &self.node(value).ty;
            let &[_, tokens, dim] = &ty.shape[..] else { return None };
            let patches = Patches::of(tokens, size).filter(|_| ty.dtype == DType::Float && dim >= 3)?;
            Some(Tokens { value, patches })
        })
    }

    /// The last attention among all tokens that the features are made of.
    pub fn attention_of_features(&self) -> Option<Attention> {
        let size = self.picture_size()?;
        self.behind_features().into_iter().find_map(|value| {
            let node = self.node(value);
            let Op::Attention { scale } = node.op else { return None };
            let [query, key] = [node.inputs[0], node.inputs[1]];
            let (asking, asked) = (self.node(query).ty.shape[2], self.node(key).ty.shape[2]);
            let patches = Patches::of(asking, size).filter(|_| asking == asked)?;
            Some(Attention { operands: [query, key], bias: node.inputs.get(3).copied(), scale, patches })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Patches;

    #[test]
    fn tokens_lie_over_a_picture_as_its_patches_do() {
        let of = |tokens, size| Patches::of(tokens, size).map(|patches| (patches.grid, patches.before));
        assert_eq!(of(196, (224, 224)), Some(((14, 14), 0)));
        assert_eq!(of(197, (224, 224)), Some(((14, 14), 1)));
        assert_eq!(of(261, (224, 224)), Some(((16, 16), 5)));
        assert_eq!(of(8 * 4 + 1, (32, 16)), Some(((8, 4), 1)));
        // A pooled token is no picture.
        assert_eq!(of(1, (224, 224)), None);
        assert_eq!(of(150, (224, 224)), None);
    }
}
