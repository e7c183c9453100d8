//! Which vision transformer a module is: its sizes and its parts, as other libraries ask for them.
//!
//! Before: [`super::module`] knows a module's tensors, graphs compute with them. After: [`super::timm`] and [`super::transformers`] name the
//! class that has just these tensors.
//!
//! **Invariant:** a network is given only where every tensor of the module is one that vision transformers have, or one that pretraining
//! alone needs.

use crate::graph::{Graph, InputKind, Program, ValueId};
use crate::op::Op;

/// A tensor of a module: its name there, and its shape.
pub type Named<'t> = (&'t str, &'t [usize]);

/// What only pretraining needs of an encoder.
const OF_PRETRAINING: [&str; 1] = ["mask_token"];

/// Tensors that a block has whatever its attention is.
pub(super) const OF_BLOCK: [&str; 11] = [
    "norm1.weight",
    "norm1.bias",
    "attn.qkv.weight",
    "attn.proj.weight",
    "attn.proj.bias",
    "norm2.weight",
    "norm2.bias",
    "mlp.fc1.weight",
    "mlp.fc1.bias",
    "mlp.fc2.weight",
    "mlp.fc2.bias",
];

/// The table of relative positions that all blocks share.
const RELATIVE: &str = "rel_pos_bias.relative_position_bias_table";

/// A vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// (height, width) of the pictures, and of a patch.
    pub image: (usize, usize),
    pub patch: (usize, usize),
    pub channels: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    /// Width of the layer inside a block's MLP.
    pub hidden: usize,
    pub norm_eps: f64,
    pub class_token: bool,
    /// Whether positions are added to the patches.
    pub positions: bool,
    /// Whether all blocks share a bias by relative positions.
    pub relative: bool,
    /// Whether keys have a bias, as queries and values have; BEiT's have none.
    pub key_bias: bool,
    /// Whether what a block adds is scaled, feature by feature.
    pub scaled: bool,
    pub final_norm: bool,
    /// Whether features are the mean of the patches; else they are the class token.
    pub pooled: bool,
    /// Tensors of the module that no such network has: what pretraining alone needs.
    pub left_out: Vec<String>,
}

impl Network {
    /// The network that the module at `module_path` is, whose tensors are `tensors`; or why it is none.
    pub fn of(program: &Program, module_path: &str, tensors: &[Named<'_>]) -> Result<Network, String> {
        let shape = |name: &str| tensors.iter().find(|(n, _)| *n == name).map(|(_, shape)| *shape);
        let Some(&[embed_dim, channels, patch_height, patch_width]) = shape("patch_embed.proj.weight") else {
            return Err("it embeds no patches by `patch_embed.proj`".to_owned());
        };
        let depth = depth(tensors);
        let hidden = shape("blocks.0.mlp.fc1.weight").map(|shape| shape[0]).ok_or("its blocks have no `mlp.fc1`")?;
        let relative = shape(RELATIVE).is_some();
        let key_bias = shape("blocks.0.attn.q_bias").is_none();
        let class_token = shape("cls_token").is_some();
        let positions = shape("pos_embed");
        let graphs = || [Some(&program.train), program.features.as_ref()].into_iter().flatten();
        let num_heads = graphs().find_map(|graph| heads(graph, module_path));
        let tokens = positions.map(|shape| shape[1] - usize::from(class_token));
        let patch = (patch_height, patch_width);
        let is_left = |name: &&str| OF_PRETRAINING.contains(name);
        let network = Network {
            image: pictures(program, patch, tokens),
            patch,
            channels,
            embed_dim,
            depth,
            num_heads: num_heads.ok_or("nothing computes with it, so that its heads are not known")?,
            hidden,
            norm_eps: graphs().find_map(|graph| norm_eps(graph, module_path)).unwrap_or(1e-6),
            class_token,
            positions: positions.is_some(),
            relative,
            key_bias,
            scaled: shape("blocks.0.gamma_1").is_some() || shape("blocks.0.ls1.gamma").is_some(),
            final_norm: shape("norm.weight").is_some(),
            pooled: program.features.as_ref().is_some_and(is_mean) || !class_token,
            left_out: tensors.iter().map(|(name, _)| *name).filter(is_left).map(str::to_owned).collect(),
        };
        network.check(tensors)?;
        Ok(network)
    }

    /// Whether it has all of `tensors`, but what is left out, and its blocks lack none.
    fn check(&self, tensors: &[Named<'_>]) -> Result<(), String> {
        const OF_ALL: [&str; 7] = [
            "cls_token",
            "pos_embed",
            "patch_embed.proj.weight",
            "patch_embed.proj.bias",
            "norm.weight",
            "norm.bias",
            RELATIVE,
        ];
        let of_block = |part: &str| match part {
            "attn.qkv.bias" => self.key_bias,
            "attn.q_bias" | "attn.v_bias" => !self.key_bias,
            "gamma_1" | "gamma_2" | "ls1.gamma" | "ls2.gamma" => self.scaled,
            _ => OF_BLOCK.contains(&part),
        };
        let known = |name: &str| match part_of_block(name) {
            Some((_, part)) => of_block(part),
            None => OF_ALL.contains(&name) || OF_PRETRAINING.contains(&name),
        };
        let unknown: Vec<&str> = tensors.iter().map(|(name, _)| *name).filter(|name| !known(name)).collect();
        if let Some(first) = unknown.first() {
            return Err(format!(
                "vision transformers have no place for {} of its tensors, such as `{first}`",
                unknown.len()
            ));
        }
        let bias = if self.key_bias { "attn.qkv.bias" } else { "attn.q_bias" };
        whole_blocks(tensors, self.depth, &[bias])
    }
}

/// Blocks, by the names of their tensors.
pub(super) fn depth(tensors: &[Named<'_>]) -> usize {
    tensors.iter().filter_map(|(name, _)| part_of_block(name)).map(|(at, _)| at + 1).max().unwrap_or(0)
}

/// `blocks.3.norm1.weight` → (3, `norm1.weight`).
pub(super) fn part_of_block(name: &str) -> Option<(usize, &str)> {
    let (at, part) = name.strip_prefix("blocks.")?.split_once('.')?;
    Some((at.parse().ok()?, part))
}

/// Whether each of `depth` blocks has what all have, and `more`.
pub(super) fn whole_blocks(tensors: &[Named<'_>], depth: usize, more: &[&str]) -> Result<(), String> {
    for at in 0..depth {
        for part in OF_BLOCK.iter().chain(more) {
            let name = format!("blocks.{at}.{part}");
            if !tensors.iter().any(|(n, _)| *n == name) {
                return Err(format!("its blocks have no `{part}`"));
            }
        }
    }
    Ok(())
}

/// Heads of the first block's attention.
pub(super) fn heads(graph: &Graph, module_path: &str) -> Option<usize> {
    let scope = format!("{module_path}.blocks.0.attn");
    let node = graph.nodes.iter().find(|node| matches!(node.op, Op::Attention { .. }) && node.scope == scope)?;
    graph.node(*node.inputs.first()?).ty.shape.get(1).copied()
}

pub(super) fn norm_eps(graph: &Graph, module_path: &str) -> Option<f64> {
    let scope = format!("{module_path}.blocks.0.norm1");
    graph.nodes.iter().find_map(|node| match node.op {
        Op::LayerNorm { eps } if node.scope == scope => Some(eps),
        _ => None,
    })
}

/// (height, width) of the pictures that the network has positions for: those of evaluation where their patches are `tokens`, else square
/// ones.
fn pictures(program: &Program, patch: (usize, usize), tokens: Option<usize>) -> (usize, usize) {
    let graphs = [program.features.as_ref(), Some(&program.train)].into_iter().flatten();
    let views = graphs.flat_map(|graph| &graph.inputs).filter(|input| matches!(input.kind, InputKind::View { .. }));
    let sizes = views.filter_map(|input| Some((*input.ty.shape.get(2)?, *input.ty.shape.get(3)?)));
    let mut fitting = sizes.filter(|(height, width)| {
        let of_size = (height / patch.0) * (width / patch.1);
        tokens.is_none_or(|tokens| tokens == of_size)
    });
    fitting.next().unwrap_or_else(|| {
        let side = (tokens.unwrap_or(0) as f64).sqrt().round() as usize;
        (side * patch.0, side * patch.1)
    })
}

/// Whether `features` are a mean over tokens.
fn is_mean(graph: &Graph) -> bool {
    let mut at: Option<ValueId> = graph.output("features");
    while let Some(id) = at {
        let node = graph.node(id);
        match &node.op {
            Op::Mean { .. } => return true,
            // What only shapes a value anew.
            Op::Reshape => at = node.inputs.first().copied(),
            _ => return false,
        }
    }
    false
}
