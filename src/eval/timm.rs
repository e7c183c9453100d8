//! What timm calls the network that a module is: the line that makes it there, and which of the module's tensors it loads.
//!
//! Before: [`super::export`] knows a module's tensors. After: they are written with that line, by which `load_state_dict` takes them
//! strictly.
//!
//! **Invariant:** a line is given only where every tensor that is written is one of the network that it makes, and the other way round.

use crate::graph::{Graph, InputKind, Program, ValueId};
use crate::op::Op;

/// A tensor of a module: its name there, and its shape.
pub type Named<'t> = (&'t str, &'t [usize]);

/// A network of timm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// `timm.create_model(…)`.
    pub line: String,
    /// Tensors of the module that it does not have: what pretraining alone needs.
    pub left_out: Vec<String>,
}

/// What only pretraining needs of an encoder.
const OF_PRETRAINING: [&str; 1] = ["mask_token"];

/// What timm's norms have unless another is named.
const NORM_EPS: f64 = 1e-6;

/// The network that the module at `module_path` is, whose tensors are `tensors`; or why timm has none.
///
/// Source: timm 1.0.31, `VisionTransformer` and `Beit`.
pub fn network(program: &Program, module_path: &str, tensors: &[Named<'_>]) -> Result<Network, String> {
    let shape = |name: &str| tensors.iter().find(|(n, _)| *n == name).map(|(_, shape)| *shape);
    let Some(&[embed_dim, channels, patch_height, patch_width]) = shape("patch_embed.proj.weight") else {
        return Err("it embeds no patches by `patch_embed.proj`".to_owned());
    };
    let block = |name: &str| name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok();
    let depth = tensors.iter().filter_map(|(name, _)| block(name)).max().map_or(0, |last| last + 1);
    let hidden = shape("blocks.0.mlp.fc1.weight").map(|shape| shape[0]).ok_or("its blocks have no `mlp.fc1`")?;
    let is_beit =
        shape("blocks.0.attn.q_bias").is_some() || shape("rel_pos_bias.relative_position_bias_table").is_some();
    let (has_class, is_scaled) = match is_beit {
        true => (shape("cls_token").is_some(), shape("blocks.0.gamma_1").is_some()),
        false => (shape("cls_token").is_some(), shape("blocks.0.ls1.gamma").is_some()),
    };
    let has_norm = shape("norm.weight").is_some();
    let positions = shape("pos_embed");
    let is_shared = shape("rel_pos_bias.relative_position_bias_table").is_some();
    check(tensors, depth, is_beit)?;
    if is_beit && !(has_class && has_norm) {
        return Err("timm's `Beit` has a class token and a norm at its end".to_owned());
    }
    if !is_beit && positions.is_none() {
        return Err("timm's `VisionTransformer` adds positions".to_owned());
    }
    let graphs = || [Some(&program.train), program.features.as_ref()].into_iter().flatten();
    let num_heads = graphs().find_map(|graph| heads(graph, module_path));
    let num_heads = num_heads.ok_or("nothing computes with it, so that its heads are not known")?;
    let tokens = positions.map(|shape| shape[1] - usize::from(has_class));
    let (height, width) = pictures(program, (patch_height, patch_width), tokens);
    let pooled = program.features.as_ref().is_some_and(is_mean) || !has_class;
    let mut line = format!(
        "timm.create_model(\"{}\", img_size=({height}, {width}), patch_size=({patch_height}, {patch_width}), in_chans={channels}, \
         embed_dim={embed_dim}, depth={depth}, num_heads={num_heads}, mlp_ratio={:?}, num_classes=0",
        if is_beit { "beit_base_patch16_224" } else { "vit_base_patch16_224" },
        hidden as f64 / embed_dim as f64,
    );
    let mut add = |argument: &str| line += &format!(", {argument}");
    match (is_beit, pooled) {
        (false, false) => add("global_pool=\"token\""),
        (true, false) => add("global_pool=\"token\", use_fc_norm=False"),
        // The mean of the patches behind the norm, as it was pretrained: a norm behind the mean would be another.
        (false, true) => add("global_pool=\"avg\", fc_norm=False"),
        (true, true) => add("global_pool=\"avg\", use_fc_norm=False"),
    }
    if is_beit {
        let absolute = if positions.is_some() { "True" } else { "False" };
        let shared = if is_shared { "True" } else { "False" };
        add(&format!("use_abs_pos_emb={absolute}, use_rel_pos_bias=False, use_shared_rel_pos_bias={shared}"));
        // Any number: it makes the layer scale, and the file's values take its place.
        add(&format!("init_values={}", if is_scaled { "0.1" } else { "None" }));
    } else {
        if is_scaled {
            add("init_values=0.1");
        }
        if !has_class {
            add("class_token=False");
        }
        if !has_norm {
            add("final_norm=False");
        }
    }
    if let Some(eps) = graphs().find_map(|graph| norm_eps(graph, module_path)).filter(|eps| *eps != NORM_EPS) {
        add(&format!("norm_layer=functools.partial(torch.nn.LayerNorm, eps={eps:?})"));
    }
    line.push(')');
    let is_left = |name: &&str| OF_PRETRAINING.contains(name);
    let left_out = tensors.iter().map(|(name, _)| *name).filter(is_left).map(str::to_owned).collect();
    Ok(Network { line, left_out })
}

/// Whether the network has all of `tensors`, but what is left out.
fn check(tensors: &[Named<'_>], depth: usize, is_beit: bool) -> Result<(), String> {
    const OF_BLOCK: [&str; 11] = [
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
    const OF_ALL: [&str; 6] =
        ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"];
    let more: &[&str] = if is_beit {
        &["attn.q_bias", "attn.v_bias", "gamma_1", "gamma_2"]
    } else {
        &["attn.qkv.bias", "ls1.gamma", "ls2.gamma"]
    };
    let known = |name: &str| {
        let part = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')).map(|(_, part)| part);
        match part {
            Some(part) => OF_BLOCK.contains(&part) || more.contains(&part),
            None => {
                OF_ALL.contains(&name)
                    || OF_PRETRAINING.contains(&name)
                    || is_beit && name == "rel_pos_bias.relative_position_bias_table"
            }
        }
    };
    let unknown: Vec<&str> = tensors.iter().map(|(name, _)| *name).filter(|name| !known(name)).collect();
    if let Some(first) = unknown.first() {
        return Err(format!("timm has no place for {} of its tensors, such as `{first}`", unknown.len()));
    }
    for at in 0..depth {
        let all = OF_BLOCK.iter().chain(if is_beit { &["attn.q_bias"][..] } else { &["attn.qkv.bias"][..] });
        for part in all {
            let name = format!("blocks.{at}.{part}");
            if !tensors.iter().any(|(n, _)| *n == name) {
                return Err(format!("its blocks have no `{part}`"));
            }
        }
    }
    Ok(())
}

/// Heads of the first block's attention.
fn heads(graph: &Graph, module_path: &str) -> Option<usize> {
    let scope = format!("{module_path}.blocks.0.attn");
    let node = graph.nodes.iter().find(|node| matches!(node.op, Op::Attention { .. }) && node.scope == scope)?;
    graph.node(*node.inputs.first()?).ty.shape.get(1).copied()
}

fn norm_eps(graph: &Graph, module_path: &str) -> Option<f64> {
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
