"""Every masked autoencoder under facebookresearch/mae's names: strictly loaded by a network that is written here of timm's blocks with the
attributes of its `MaskedAutoencoderViT`, and with the predictions of transformers' `ViTMAEForPreTraining` for the same masks.

The original itself asks for timm 0.3.2, which no Python of today runs. With `MAE=CLONE`, a clone of facebookresearch/mae, it is loaded
all the same: what it calls by names that are gone is given back to it.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from types import SimpleNamespace
from unittest import mock

import numpy
import runs
import timm.models.vision_transformer
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block

transformers.logging.set_verbosity_error()


class MaskedAutoencoderViT(torch.nn.Module):
    def __init__(self, img_size, patch_size, in_chans, embed_dim, depth, num_heads, decoder_embed_dim, decoder_depth, decoder_num_heads,
                 mlp_ratio, norm_layer, norm_pix_loss):  # fmt: skip
        super().__init__()

        def blocks(dim: int, heads: int, count: int) -> torch.nn.ModuleList:
            made = [Block(dim, heads, mlp_ratio, qkv_bias=True, norm_layer=norm_layer) for _ in range(count)]
            return torch.nn.ModuleList(made)

        def zeros(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.zeros(*shape))

        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        tokens = self.patch_embed.num_patches + 1
        self.cls_token, self.pos_embed = zeros(1, 1, embed_dim), zeros(1, tokens, embed_dim)
        self.blocks, self.norm = blocks(embed_dim, num_heads, depth), norm_layer(embed_dim)
        self.decoder_embed = torch.nn.Linear(embed_dim, decoder_embed_dim)
        self.mask_token, self.decoder_pos_embed = zeros(1, 1, decoder_embed_dim), zeros(1, tokens, decoder_embed_dim)
        self.decoder_blocks = blocks(decoder_embed_dim, decoder_num_heads, decoder_depth)
        self.decoder_norm = norm_layer(decoder_embed_dim)
        self.decoder_pred = torch.nn.Linear(decoder_embed_dim, patch_size**2 * in_chans)
        self.normalized = norm_pix_loss

    def forward(self, x: torch.Tensor, noise: torch.Tensor, kept: int) -> torch.Tensor:
        """Predictions of all patches, of which those with the least noise are seen."""
        order = noise.argsort(1)
        patches = self.patch_embed(x) + self.pos_embed[:, 1:]
        seen = torch.stack([rows[ids[:kept]] for rows, ids in zip(patches, order)])
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        tokens = torch.cat([first, seen], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.decoder_embed(self.norm(tokens))
        full = self.mask_token.repeat(len(x), patches.shape[1], 1)
        full = torch.stack([rows.index_copy(0, ids[:kept], own) for rows, ids, own in zip(full, order, tokens[:, 1:])])
        tokens = torch.cat([tokens[:, :1], full], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        return self.decoder_pred(self.decoder_norm(tokens))[:, 1:]


def original(clone: str) -> object:
    """`models_mae` of a clone: timm's blocks had another argument, which it gives as None, and numpy another name for doubles."""

    def block(*args: object, qk_scale: None = None, **kwargs: object) -> torch.nn.Module:
        return Block(*args, **kwargs)

    numpy.float = float
    timm.models.vision_transformer.Block = block
    sys.path.insert(0, clone)
    import models_mae

    return models_mae


def predicted(model: torch.nn.Module, x: torch.Tensor, noise: torch.Tensor, ratio: float) -> torch.Tensor:
    """Predictions of all patches. The original draws its noise within."""
    if isinstance(model, MaskedAutoencoderViT):
        return model(x, noise, int(noise.shape[1] * (1 - ratio)))
    with mock.patch("torch.rand", lambda *_, **__: noise):
        return model(x, ratio)[1]


def main() -> None:
    results = []
    clone = os.environ.get("MAE")
    models = original(clone) if clone else SimpleNamespace(MaskedAutoencoderViT=MaskedAutoencoderViT)
    with runs.folder() as folder:
        known = [name for name in runs.methods()[1] if re.match(r"(mae|cmae)_vitb|quickstart|shapes", name)]
        for run in runs.made(folder, sys.argv[1:] or known):
            path, other = folder / run.name / "mae.safetensors", folder / run.name / "transformers_mae"
            run.export(path, "--format", "mae")
            run.export(other, "--format", "transformers")
            with safe_open(path, "pt") as file:
                line = file.metadata()["mae"]
            model = eval(line, {"models_mae": models, "torch": torch, "functools": functools})  # noqa: S307: our own line
            model.load_state_dict(load_file(path), strict=True)
            theirs = transformers.ViTMAEForPreTraining.from_pretrained(other).eval()
            x = torch.from_numpy(run.pictures)
            patches = model.patch_embed.num_patches
            noise = torch.rand(len(x), patches, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                expected = theirs(x, noise=noise)
                found = predicted(model.eval(), x, noise, theirs.config.mask_ratio)
            normalized = model.norm_pix_loss if clone else model.normalized
            assert theirs.config.norm_pix_loss == normalized
            error = ((found - expected.logits).abs().max() / expected.logits.abs().max()).item()
            results.append(runs.line(run.name, error, f"loss={expected.loss.item():.4f} {line}"))
    runs.told(results)


if __name__ == "__main__":
    main()
