//! What transformers calls a vision transformer: its class, its `config.json`, and the scheme of names that it loads.
//!
//! Before: [`super::network`] knows the network, [`super::decoder`] what it was trained with. After: [`super::folder`] writes what
//! `from_pretrained` takes strictly.
//!
//! **Invariant:** a class is given only where it has every tensor that is written, and no other, and computes the same with them.

use serde_json::{Map, Value, json};

use super::decoder::Decoder;
use super::network::Network;

/// A class of transformers with its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Such as `ViTModel`.
    pub name: &'static str,
    /// Whose table of `weights::scheme` has its names.
    pub scheme: &'static str,
    pub config: Map<String, Value>,
    /// What `from_pretrained` is told beside the folder.
    pub arguments: &'static str,
    /// What makes the features of its output, `out`.
    pub features: &'static str,
    /// The end of names that it does not have: the bias of keys, where it is left out.
    pub without: Option<&'static str>,
}

/// The class that is the encoder alone, or why there is none.
///
/// Source: transformers 5.24, `ViTModel`, `IJepaModel`, `Dinov2Model`, `BeitModel` and their configurations.
pub fn encoder(network: &Network) -> Result<Class, String> {
    let Network { class_token, positions, relative, key_bias, scaled, final_norm, .. } = *network;
    // BEiT's keys have no bias. One that adds the same to all logits of a row changes nothing, so that it can be left out.
    let is_beit = relative || !key_bias || !final_norm;
    let (name, kind, scheme) = match (is_beit, class_token, scaled) {
        (true, true, _) => ("BeitModel", "beit", "transformers_beit"),
        (false, true, false) => ("ViTModel", "vit", "transformers_vit"),
        (false, true, true) => ("Dinov2Model", "dinov2", "transformers_dinov2"),
        (false, false, false) => ("IJepaModel", "ijepa", "transformers_vit"),
        (_, false, _) => {
            return Err("without a class token transformers has `IJepaModel` alone, with a final norm and positions, without layer scale".to_owned());
        }
    };
    if !is_beit && !positions {
        return Err("its positions are neither added nor relative".to_owned());
    }
    let mut config = common(network, name, kind);
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    match name {
        "BeitModel" => {
            if network.patch.0 != network.patch.1 {
                return Err(format!("`BeitModel` has square patches, not {:?}", network.patch));
            }
            let (rows, columns) = (network.image.0 / network.patch.0, network.image.1 / network.patch.1);
            // It reads the table of a grid of other sides as if rows were columns, and resizes it to what it should have been.
            if relative && rows != columns {
                return Err(format!(
                    "`BeitModel` mixes up relative positions in a grid of {rows} by {columns} patches"
                ));
            }
            set("use_absolute_position_embeddings", json!(positions));
            set("use_shared_relative_position_bias", json!(relative));
            set("use_relative_position_bias", json!(false));
            set("use_mask_token", json!(false));
            // Any number above 0 makes the layer scale, and the file's values take its place.
            set("layer_scale_init_value", json!(if scaled { 0.1 } else { 0.0 }));
            set("drop_path_rate", json!(0.0));
            // Where it is set the norm at the end belongs to the pooling layer, which is not made.
            set("use_mean_pooling", json!(!final_norm));
        }
        "Dinov2Model" => {
            if !network.hidden.is_multiple_of(network.embed_dim) || network.patch.0 != network.patch.1 {
                return Err(
                    "`Dinov2Model` has square patches, and an MLP of a whole number of times its width".to_owned()
                );
            }
            set("mlp_ratio", json!(network.hidden / network.embed_dim));
            set("layerscale_value", json!(1.0));
            set("use_mask_token", json!(false));
            set("use_swiglu_ffn", json!(false));
        }
        _ => {}
    }
    Ok(Class {
        name,
        scheme,
        config,
        // None of our encoders has one: features are pooled by whoever wants them.
        arguments: if name == "Dinov2Model" { "" } else { ", add_pooling_layer=False" },
        features: match (class_token, network.pooled) {
            (true, false) => "out.last_hidden_state[:, 0]",
            (true, true) => "out.last_hidden_state[:, 1:].mean(1)",
            (false, _) => "out.last_hidden_state.mean(1)",
        },
        without: (is_beit && key_bias).then_some(".key.bias"),
    })
}

/// The class of a masked autoencoder, with its decoder, or why it is none of transformers'.
///
/// Source: transformers 5.24, `ViTMAEForPreTraining` and `ViTMAEConfig`.
pub fn autoencoder(network: &Network, decoder: &Decoder) -> Result<Class, String> {
    let encoder = encoder(network)?;
    if encoder.name != "ViTModel" {
        return Err(format!("its encoder is a `{}`, not a `ViTModel`", encoder.name));
    }
    let square = |(height, width): (usize, usize)| height == width;
    if !square(network.image) || !square(network.patch) {
        return Err("`ViTMAEForPreTraining` has square pictures and patches".to_owned());
    }
    let mut config = common(network, "ViTMAEForPreTraining", "vit_mae");
    for (key, value) in [
        ("decoder_hidden_size", json!(decoder.embed_dim)),
        ("decoder_num_hidden_layers", json!(decoder.depth)),
        ("decoder_num_attention_heads", json!(decoder.num_heads)),
        ("decoder_intermediate_size", json!(decoder.hidden)),
        ("mask_ratio", json!(decoder.mask_ratio())),
        ("norm_pix_loss", json!(decoder.normalized)),
    ] {
        config.insert(key.to_owned(), value);
    }
    Ok(Class { name: "ViTMAEForPreTraining", config, arguments: "", ..encoder })
}

fn common(network: &Network, class: &str, kind: &str) -> Map<String, Value> {
    let side = |(height, width): (usize, usize)| if height == width { json!(height) } else { json!([height, width]) };
    let settings = json!({
        "architectures": [class],
        "model_type": kind,
        "hidden_size": network.embed_dim,
        "num_hidden_layers": network.depth,
        "num_attention_heads": network.num_heads,
        "intermediate_size": network.hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": network.norm_eps,
        "image_size": side(network.image),
        "patch_size": side(network.patch),
        "num_channels": network.channels,
        "qkv_bias": true,
    });
    match settings {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}
