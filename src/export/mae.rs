//! A masked autoencoder under the names of facebookresearch/mae: encoder and decoder in one file.
//!
//! Before: [`super::network`] and [`super::decoder`] know both. After: `models_mae.MaskedAutoencoderViT` loads the file strictly, and the
//! published scripts go on from it.
//!
//! **Invariant:** the file holds every tensor of that class, and no other.

use std::path::Path;

use super::decoder::Decoder;
use super::error::ExportError;
use super::module::{self, Written};
use super::network::Network;
use crate::graph::Program;
use crate::run::tensor_file::{self, FileTensor};
use crate::tensor::Element;
use crate::weights::scheme;

/// The table of its names.
const SCHEME: &str = "mae";

/// Writes the encoder at `module_path`, and the decoder that was trained with it, to `path` as f32 safetensors.
pub fn write<E: Element>(
    program: &Program,
    arena: &[E],
    module_path: &str,
    path: &Path,
) -> Result<Written, ExportError> {
    let mut all = module::held(program, arena, module_path, &[])?;
    let none = |why| ExportError::NoDecoder { module: module_path.to_owned(), of: SCHEME, why };
    let network = module::network(program, module_path).map_err(none)?;
    check(&network).map_err(none)?;
    let decoder = Decoder::of(program, module_path, &network).map_err(none)?;
    if decoder.hidden * network.embed_dim != network.hidden * decoder.embed_dim {
        return Err(none("the blocks of its encoder and of its decoder have MLPs of one ratio".to_owned()));
    }
    all.retain(|tensor| !network.left_out.contains(&tensor.name));
    let mut tensors = named(all, "vit").map_err(none)?;
    tensors.extend(named(module::held(program, arena, &decoder.module, &[])?, "decoder").map_err(none)?);
    let line = line(&network, &decoder);
    let mut metadata = module::metadata(program, module_path);
    metadata.push((SCHEME, line.clone()));
    tensor_file::write(path, &tensors, &metadata)?;
    Ok(Written { tensors: tensors.len(), lines: vec![format!("model = {line}")], left_out: network.left_out })
}

/// Whether the encoder is that of the class.
fn check(network: &Network) -> Result<(), String> {
    let plain = network.class_token && network.positions && network.key_bias && network.final_norm;
    if !plain || network.relative || network.scaled {
        return Err(
            "its encoder has a class token, positions that are added, a final norm, and no layer scale".to_owned()
        );
    }
    if network.image.0 != network.image.1 || network.patch.0 != network.patch.1 {
        return Err(format!("it has square pictures and patches, not {:?} and {:?}", network.image, network.patch));
    }
    Ok(())
}

fn named(tensors: Vec<FileTensor>, part: &str) -> Result<Vec<FileTensor>, String> {
    let part = scheme::part(SCHEME, part).ok_or_else(|| format!("`{SCHEME}` has no such part"))?;
    module::renamed(tensors, part, "").map_err(|name| format!("it has no name for `{name}`"))
}

/// The line that makes the network.
///
/// Source: facebookresearch/mae, `MaskedAutoencoderViT` of models_mae.py.
fn line(network: &Network, decoder: &Decoder) -> String {
    let Network { image, patch, channels, embed_dim, depth, num_heads, hidden, norm_eps, .. } = network;
    format!(
        "models_mae.MaskedAutoencoderViT(img_size={}, patch_size={}, in_chans={channels}, embed_dim={embed_dim}, depth={depth}, \
         num_heads={num_heads}, decoder_embed_dim={}, decoder_depth={}, decoder_num_heads={}, mlp_ratio={:?}, \
         norm_layer=functools.partial(torch.nn.LayerNorm, eps={norm_eps:?}), norm_pix_loss={})",
        image.0,
        patch.0,
        decoder.embed_dim,
        decoder.depth,
        decoder.num_heads,
        *hidden as f64 / *embed_dim as f64,
        if decoder.normalized { "True" } else { "False" },
    )
}
