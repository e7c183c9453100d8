"""BEiT (Bao et al. 2022, 2106.08254) with a ViT-VQ tokenizer, held against transformers' BEiT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from common import (
    Terms, adamw, agree, another_view, clip_all, images, random_mask, randomise, record, start, vector_or, versions,
)  # fmt: skip
from data2vec import BEIT, BEIT_NOTE
from tokenizer import CODE, K, MARGIN, encode, make_tokenizer
from vit import Encoder, settings

BATCH = 4
RENAMED = (
    ("encoder.norm.", "layernorm."), ("head.", "lm_head."), ("encoder.blocks.", "beit.layers."),
    ("encoder.patch_embed.proj.", "beit.embeddings.patch_embeddings.projection."),
    ("encoder.rel_pos_bias.", "beit.shared_position_bias."), ("encoder.", "beit.embeddings."),
    (".norm1.", ".layernorm_before."), (".norm2.", ".layernorm_after."), (".ls1.gamma", ".lambda_1"),
    (".ls2.gamma", ".lambda_2"), (".attn.proj.", ".attention.o_proj."), (".attn.q_bias", ".attention.q_proj.bias"),
    (".attn.v_bias", ".attention.v_proj.bias"),
)  # fmt: skip


@torch.no_grad()
def check_peer(model: nn.Module, view: Tensor, mask: Tensor, ids: Tensor, logits: Tensor, loss: Tensor) -> None:
    config = transformers.BeitConfig(
        image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48,
        layer_norm_eps=1e-6, vocab_size=K, use_mask_token=True, use_absolute_position_embeddings=False,
        use_relative_position_bias=False, use_shared_relative_position_bias=True, layer_scale_init_value=0.1,
        drop_path_rate=0.0,
    )  # fmt: skip
    peer = transformers.BeitForMaskedImageModeling(config)
    state = {}
    for name, value in model.state_dict().items():
        if name.startswith("tokenizer."):
            continue
        for old, new in RENAMED:
            name = name.replace(old, new, 1)
        if ".attn.qkv." in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                state[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = piece
        else:
            state[name] = value
    missing, unexpected = peer.load_state_dict(state, strict=False)
    assert not unexpected and all("index" in n for n in missing), (missing, unexpected)
    out = peer.double().eval()(view, bool_masked_pos=mask.bool(), labels=ids[mask.bool()])
    agree("BeitForMaskedImageModeling logits", logits, out.logits)
    agree("BeitForMaskedImageModeling loss", loss, out.loss)


def make(seed: int = 19) -> None:
    start(seed)
    config = settings(BATCH, positions="relative") | {
        "vocabulary": K, "code_dim": CODE, "layer_scale": True, "clip": 1.0,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05},
        "tokenizer": {"depth": 1, "decoder_depth": 1, "embed_dim": 24, "num_heads": 3, "mlp_ratio": 2.0},
    }  # fmt: skip
    model = nn.ModuleDict({"encoder": Encoder(**BEIT), "head": nn.Linear(24, K)})
    randomise(model)
    tokenizer = make_tokenizer().requires_grad_(False)
    model["tokenizer"] = tokenizer
    mask = torch.cat([random_mask(1, 16, n) for n in (6, 5, 6, 4)])
    view = images(BATCH, 16)
    inputs = {"view": view, "view_tokenizer": another_view(view), "mask": mask}
    hidden = mask.bool()

    def forward(step: int) -> tuple[Terms, Terms]:
        ids = encode(tokenizer, inputs["view_tokenizer"])[1]
        logits = model["head"](model["encoder"](view, mask=mask).patches)
        loss = F.cross_entropy(logits[hidden], ids[hidden])
        check_peer(model, view, mask, ids, logits, loss)
        return {"mim": loss}, {"ids": ids, "logits": logits}

    record(
        "beit",
        about="BEiT: masked patches predict the ids that a frozen tokenizer gives to a second rendering of the crop.",
        source=f"{versions('transformers', 'timm', 'torch')}: BeitForMaskedImageModeling",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector_or("cls_token")),
        clip=clip_all(config["clip"]),
        notes=[
            BEIT_NOTE,
            "one LayerNorm (encoder.norm) stands before head; logits are given for every patch; the loss is the mean "
            "over all masked patches of the batch, whose counts differ per image",
            "ids: nearest code of tokenizer.* on view_tokenizer (see vq_tokenizer for its parts; its decoder and "
            f"to_pixels are not used); nearest two codes differ by more than {MARGIN:g} in squared distance",
            "clip: all gradients by their common norm, factor clip / (norm + 1e-6); decay exempts one-dimensional "
            "parameters (layer scale too) and the class token, not the mask token and the bias table",
        ],
    )


if __name__ == "__main__":
    make()
