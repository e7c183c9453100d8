"""data2vec for images (Baevski et al. 2022, 2202.03555; facebookresearch/data2vec_vision)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from common import (
    Terms, adamw, agree, clip_all, follower, images, move, random_mask, randomise, record, start, vector_or, versions,
)  # fmt: skip
from vit import Encoder, check_encoder, settings

BATCH = 4
BEIT = {"positions": "relative", "mask_token": True, "layer_scale": 0.4, "beit_bias": True}
BEIT_NOTE = (
    "attention has q_bias and v_bias and none on keys; relative_position_bias_table has (2g - 1)^2 + 3 rows: row of "
    "query i and key j is (row_i - row_j + g - 1) (2g - 1) + col_i - col_j + g - 1, the last three are class to patch, "
    "patch to class, class to class; one table is added to the logits of all blocks; no absolute positions"
)


def make(seed: int = 10) -> None:
    start(seed)
    check_encoder()
    config = settings(BATCH, positions="relative", depth=3, ratio=1.5) | {
        "target_blocks": 2, "target_norm_eps": 1e-5, "beta": 0.5, "momentum": 0.9, "layer_scale": True,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": 0.05}, "clip": 0.5,
    }  # fmt: skip
    encoder = Encoder(**BEIT, depth=3, ratio=1.5)
    randomise(encoder)
    head = nn.Linear(24, 24)
    randomise(head)
    copies = nn.ModuleDict({"encoder": follower(encoder)})
    model = nn.ModuleDict({"encoder": encoder, "head": head, "momentum": copies})
    mask = torch.cat([random_mask(1, 16, n) for n in (9, 6, 10, 8)])
    inputs = {"view": images(BATCH, 16), "mask": mask}

    def normed(x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + config["target_norm_eps"]).sqrt()

    def forward(step: int) -> tuple[Terms, Terms]:
        predicted = head(encoder(inputs["view"], mask=mask).patches)
        with torch.no_grad():
            layers = copies["encoder"](inputs["view"]).layers[-config["target_blocks"] :]
            target = normed(sum(normed(x[:, 1:]) for x in layers) / len(layers))
            agree("layer_norm", normed(layers[0]), F.layer_norm(layers[0], (24,)))
        difference = (predicted - target).abs()
        beta = config["beta"]
        assert (difference < beta).any() and (difference > beta).any()
        element = torch.where(difference < beta, 0.5 * difference.square() / beta, difference - 0.5 * beta)
        loss = (element.mean(dim=-1) * mask).sum() / mask.sum()
        chosen = mask.bool()
        agree("smooth_l1_loss", loss, F.smooth_l1_loss(predicted[chosen], target[chosen], beta=beta))
        return {"regress": loss}, {"predicted": predicted, "target": target}

    record(
        "data2vec",
        about="data2vec: masked patches predict the mean of the EMA's last block outputs, each normalised, normalised.",
        source=f"{versions('timm', 'torch')}: beit.Attention, beit.RelativePositionBias, smooth_l1_loss",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector_or("cls_token")),
        clip=clip_all(config["clip"]),
        update=lambda step: move(copies, model, config["momentum"]),
        notes=[
            BEIT_NOTE,
            "target: outputs of the last target_blocks blocks of momentum.encoder on the whole picture, no final "
            "norm; each normalised over its width (no gain or bias, eps 1e-5), mean, normalised again; the copy's "
            "final norm and mask token are not used and follow all the same",
            "student: final norm, then head; the loss is the mean over masked patches of the batch and over width; "
            "smooth L1: x^2 / (2 beta) below beta, else |x| - beta / 2; counts differ per image",
            "beta is 2 in the paper; 0.5 here reaches both branches",
            "clip: all gradients by their common norm, factor clip / (norm + 1e-6); decay exempts one-dimensional "
            "parameters (layer scale too) and the class token, not the mask token and the bias table; EMA after",
        ],
    )


if __name__ == "__main__":
    make()
