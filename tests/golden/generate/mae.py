"""MAE (He et al. 2022, 2111.06377) with two optimizer steps, forward held against transformers' ViTMAE."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor, nn

from common import Terms, adamw, agree, images, randomise, record, single, start, vector, versions
from vit import Decoder, Encoder, normalised, patchify, settings

BATCH = 4
KEPT = 4
RENAMED = (
    ("encoder.cls_token", "vit.embeddings.cls_token"), ("encoder.pos_embed", "vit.embeddings.position_embeddings"),
    ("encoder.patch_embed.proj.", "vit.embeddings.patch_embeddings.projection."),
    ("encoder.norm.", "vit.layernorm."), ("encoder.blocks.", "vit.layers."),
    ("decoder.embed.", "decoder.decoder_embed."), ("decoder.pos_embed", "decoder.decoder_pos_embed"),
    ("decoder.blocks.", "decoder.decoder_layers."),
    ("decoder.norm.", "decoder.decoder_norm."), ("decoder.pred.", "decoder.decoder_pred."),
    (".norm1.", ".layernorm_before."), (".norm2.", ".layernorm_after."), (".attn.proj.", ".attention.o_proj."),
)  # fmt: skip


@torch.no_grad()
def check_peer(model: nn.Module, view: Tensor, noise: Tensor, pixels: Tensor, loss: Tensor) -> None:
    config = transformers.ViTMAEConfig(
        image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
        layer_norm_eps=1e-6, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=64, norm_pix_loss=True, mask_ratio=0.75,
    )  # fmt: skip
    peer = transformers.ViTMAEForPreTraining(config)
    state = {}
    for name, value in model.state_dict().items():
        for old, new in RENAMED:
            name = name.replace(old, new, 1)
        if ".attn.qkv." in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                state[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = piece
        else:
            state[name] = value
    peer.load_state_dict(state)
    out = peer.double()(view, noise=noise)
    agree("ViTMAEForPreTraining logits", pixels, out.logits)
    agree("ViTMAEForPreTraining loss", loss, out.loss)


def make(seed: int = 21) -> None:
    start(seed)
    config = settings(BATCH, positions="x", ratio=4.0) | {
        "mask_ratio": 0.75, "decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_ratio": 4.0,
        "pixel_eps": 1e-6, "adamw": {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.05},
    }  # fmt: skip
    encoder = Encoder(positions="x", ratio=4.0)
    decoder = Decoder(4, 24, 16, 1, 2, 4.0, 48)
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    randomise(model)
    noise = single(torch.rand(BATCH, 16))
    keep = noise.argsort(dim=1)[:, :KEPT]
    mask = torch.ones(BATCH, 16).scatter(1, keep, 0.0)
    inputs = {"view": images(BATCH, 16), "noise": noise, "ids_keep": keep, "mask": mask}
    view = inputs["view"]

    def forward(step: int) -> tuple[Terms, Terms]:
        tokens = encoder(view, keep=keep).tokens
        pixels = decoder(tokens, keep)
        errors = (pixels - normalised(patchify(view, 4))).square().mean(dim=2)
        loss = (errors * mask).sum() / mask.sum()
        check_peer(model, view, noise, pixels, loss)
        return {"recon": loss}, {"latent": tokens, "pixels": pixels}

    record(
        "mae_steps",
        about="MAE: normalised pixels of masked patches, and two AdamW steps.",
        source=f"{versions('transformers', 'timm', 'torch')}: ViTMAEForPreTraining",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector),
        notes=[
            "the 4 smallest noise values of an image are kept, in the order of their values (ids_keep); mask is 1 "
            "where hidden; fixed sines, x first, in encoder and decoder",
            "target: (x - mean) / sqrt(unbiased variance + 1e-6) of each patch, in the order row, column, channel",
            "decay exempts one-dimensional parameters, not class and mask tokens, as the official code",
        ],
    )


if __name__ == "__main__":
    make()
