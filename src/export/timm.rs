//! What timm calls a vision transformer: the line that makes it there.
//!
//! Before: [`super::network`] knows the network. After: the file is written with that line, by which `load_state_dict` takes it strictly.
//!
//! **Invariant:** a line is given only where every tensor that is written is one of the network that it makes, and the other way round.

use super::network::Network;

/// What timm's norms have unless another is named.
const NORM_EPS: f64 = 1e-6;

/// `timm.create_model(…)`, or why timm has no such network.
///
/// Source: timm 1.0.31, `VisionTransformer` and `Beit`.
pub fn line(network: &Network) -> Result<String, String> {
    let Network { image, patch, channels, embed_dim, depth, num_heads, hidden, .. } = network;
    let is_beit = !network.key_bias || network.relative;
    if is_beit && network.key_bias {
        return Err("timm's `Beit` has no bias of keys".to_owned());
    }
    if is_beit && !(network.class_token && network.final_norm) {
        return Err("timm's `Beit` has a class token and a norm at its end".to_owned());
    }
    if !is_beit && !network.positions {
        return Err("timm's `VisionTransformer` adds positions".to_owned());
    }
    let mut line = format!(
        "timm.create_model(\"{}\", img_size=({}, {}), patch_size=({}, {}), in_chans={channels}, embed_dim={embed_dim}, depth={depth}, \
         num_heads={num_heads}, mlp_ratio={:?}, num_classes=0",
        if is_beit { "beit_base_patch16_224" } else { "vit_base_patch16_224" },
        image.0,
        image.1,
        patch.0,
        patch.1,
        *hidden as f64 / *embed_dim as f64,
    );
    let mut add = |argument: &str| line += &format!(", {argument}");
    match (is_beit, network.pooled) {
        (false, false) => add("global_pool=\"token\""),
        (true, false) => add("global_pool=\"token\", use_fc_norm=False"),
        // The mean of the patches behind the norm, as it was pretrained: a norm behind the mean would be another.
        (false, true) => add("global_pool=\"avg\", fc_norm=False"),
        (true, true) => add("global_pool=\"avg\", use_fc_norm=False"),
    }
    if is_beit {
        let word = |is: bool| if is { "True" } else { "False" };
        let (absolute, shared) = (word(network.positions), word(network.relative));
        add(&format!("use_abs_pos_emb={absolute}, use_rel_pos_bias=False, use_shared_rel_pos_bias={shared}"));
        // Any number: it makes the layer scale, and the file's values take its place.
        add(&format!("init_values={}", if network.scaled { "0.1" } else { "None" }));
    } else {
        if network.scaled {
            add("init_values=0.1");
        }
        if !network.class_token {
            add("class_token=False");
        }
        if !network.final_norm {
            add("final_norm=False");
        }
    }
    if network.norm_eps != NORM_EPS {
        add(&format!("norm_layer=functools.partial(torch.nn.LayerNorm, eps={:?})", network.norm_eps));
    }
    line.push(')');
    Ok(line)
}
