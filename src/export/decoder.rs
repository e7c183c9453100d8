//! The decoder of a masked autoencoder: the module that makes pixels of all patches from an encoder's tokens of some.
//!
//! Before: [`super::network`] knows the encoder. After: [`super::transformers`] and [`super::mae`] write both, so that others can go on
//! pretraining.
//!
//! **Invariant:** a decoder is told by its tensors, its place in the graphs and what these compute, never by its name.

use super::module;
use super::network::{Named, Network, depth, heads, norm_eps, part_of_block, whole_blocks};
use crate::graph::{Graph, Node, Program, TensorKind, ValueId};
use crate::op::{Op, PatchOrder};

/// MAE's decoder, and how it was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    /// Where its tensors are.
    pub module: String,
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    /// Width of the layer inside a block's MLP.
    pub hidden: usize,
    /// Patches that the encoder saw, and all of them.
    pub kept: (usize, usize),
    /// Whether it predicts patches that are normalised each by itself.
    pub normalized: bool,
}

impl Decoder {
    /// The decoder that was trained with the encoder at `encoder_path`, or why there is none.
    ///
    /// Source: He et al. 2022, facebookresearch/mae, `MaskedAutoencoderViT`.
    pub fn of(program: &Program, encoder_path: &str, encoder: &Network) -> Result<Decoder, String> {
        let kept = kept(&program.train, encoder_path).ok_or("its encoder sees all patches")?;
        let of_tensor = |path: &str| path.strip_suffix(".pred.weight").map(str::to_owned);
        let trained = program.layout.tensors.iter().filter(|decl| decl.kind == TensorKind::Trained);
        let mut found: Vec<Decoder> = trained
            .filter_map(|decl| of_tensor(&decl.path))
            .filter_map(|path| decoder(program, &path, encoder, kept))
            .collect();
        // Of several the one whose pixels are shown: another may predict features of the same width.
        if found.len() > 1
            && let Some(pictures) = &program.pictures
            && let Some(shown) = pictures.output("reconstructed")
        {
            let read = read_by(pictures, shown);
            found.retain(|decoder| read.iter().any(|path| path.starts_with(&format!("{}.", decoder.module))));
        }
        match found.len() {
            0 => Err("no module makes pixels of its tokens as MAE's decoder does".to_owned()),
            1 => Ok(found.remove(0)),
            _ => {
                let names: Vec<&str> = found.iter().map(|decoder| decoder.module.as_str()).collect();
                Err(format!("{} are decoders as MAE's", names.join(" and ")))
            }
        }
    }

    /// Share of the patches that are removed: the number that, as `int(patches · (1 − ratio))` has it, keeps as many.
    pub fn mask_ratio(&self) -> f64 {
        let (kept, all) = (self.kept.0 as f64, self.kept.1 as f64);
        let ratio = 1.0 - kept / all;
        // Where rounding would keep one less, a quarter of a patch more.
        if (all * (1.0 - ratio)) as usize == self.kept.0 { ratio } else { 1.0 - (kept + 0.25) / all }
    }
}

fn decoder(program: &Program, path: &str, encoder: &Network, kept: (usize, usize)) -> Option<Decoder> {
    let tensors = module::tensors(program, path);
    let shapes: Vec<Named<'_>> =
        tensors.iter().map(|(name, index)| (name.as_str(), &program.layout.tensors[*index].shape[..])).collect();
    let shape = |name: &str| shapes.iter().find(|(n, _)| *n == name).map(|(_, shape)| *shape);
    let of_all = |name: &str| {
        [
            "embed.weight",
            "embed.bias",
            "mask_token",
            "pos_embed",
            "norm.weight",
            "norm.bias",
            "pred.weight",
            "pred.bias",
        ]
        .contains(&name)
    };
    let of_block = |part: &str| part == "attn.qkv.bias" || super::network::OF_BLOCK.contains(&part);
    let known = |name: &str| part_of_block(name).map_or(of_all(name), |(_, part)| of_block(part));
    let is_whole = ["embed.weight", "embed.bias", "mask_token", "pos_embed", "norm.weight", "norm.bias", "pred.bias"]
        .iter()
        .all(|name| shape(name).is_some());
    let depth = depth(&shapes);
    if !is_whole
        || !shapes.iter().all(|(name, _)| known(name))
        || whole_blocks(&shapes, depth, &["attn.qkv.bias"]).is_err()
    {
        return None;
    }
    let patches = kept.1;
    let &[embed_dim, from] = shape("embed.weight")? else { return None };
    let values = encoder.patch.0 * encoder.patch.1 * encoder.channels;
    let fits = from == encoder.embed_dim
        && shape("pos_embed")? == [1, patches + 1, embed_dim]
        && shape("mask_token")? == [1, 1, embed_dim]
        && shape("pred.weight")? == [values, embed_dim];
    // One width of norms' denominators is all that their settings have.
    if !fits || norm_eps(&program.train, path)? != encoder.norm_eps {
        return None;
    }
    Some(Decoder {
        module: path.to_owned(),
        embed_dim,
        depth,
        num_heads: heads(&program.train, path)?,
        hidden: *shape("blocks.0.mlp.fc1.weight")?.first()?,
        kept,
        normalized: is_normalized(&program.train, path),
    })
}

/// Patches that the module at `path` keeps in training, and all of them.
fn kept(graph: &Graph, path: &str) -> Option<(usize, usize)> {
    let node = graph.nodes.iter().find(|node| node.op == Op::GatherTokens && node.scope == path)?;
    let (kept, all) = (node.ty.shape.get(1)?, graph.node(*node.inputs.first()?).ty.shape.get(1)?);
    (kept < all).then_some((*kept, *all))
}

/// Tensors that the value `of` hangs on.
fn read_by(graph: &Graph, of: ValueId) -> Vec<&str> {
    let mut wanted = vec![false; graph.nodes.len()];
    wanted[of.index()] = true;
    let mut read = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate().rev().filter(|(id, _)| *id <= of.index()) {
        if wanted[id] {
            node.inputs.iter().for_each(|input| wanted[input.index()] = true);
            if let Op::Param { path } = &node.op {
                read.push(path.as_str());
            }
        }
    }
    read
}

/// Whether the pixels of the decoder at `path` are compared with patches that something was made of: by a division, as a patch's own
/// deviation is taken out.
fn is_normalized(graph: &Graph, path: &str) -> bool {
    let prefix = format!("{path}.");
    let is_scaled = |node: &Node| matches!(node.op, Op::Div | Op::Sqrt | Op::PowConst { .. } | Op::LayerNorm { .. });
    let is_patches = |node: &Node| matches!(node.op, Op::Patchify { order: PatchOrder::RowColumnChannel, .. });
    // Of each value: whether it hangs on the decoder; and, where it is made of pictures alone, whether of patches, and scaled ones.
    let mut decoded = vec![false; graph.nodes.len()];
    let mut patches: Vec<Option<(bool, bool)>> = vec![None; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs = || node.inputs.iter().map(|input| input.index());
        let of_module = node.scope == path || node.scope.starts_with(&prefix);
        decoded[id] = of_module || inputs().any(|input| decoded[input]);
        if decoded[id] && inputs().any(|input| patches[input] == Some((true, true))) {
            return true;
        }
        let made = match &node.op {
            Op::Input { .. } | Op::Full { .. } | Op::Iota | Op::ResizeWeights { .. } => Some((false, false)),
            Op::Param { .. } => None,
            _ => inputs().map(|input| patches[input]).try_fold((false, false), |all, one| {
                let one = one?;
                Some((all.0 || one.0, all.1 || one.1))
            }),
        };
        // What was scaled before it was cut into patches is the view itself.
        patches[id] = made
            .map(|(of_patches, scaled)| (of_patches || is_patches(node), of_patches && (scaled || is_scaled(node))));
    }
    false
}
