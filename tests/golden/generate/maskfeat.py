"""MaskFeat (Wei et al. 2022, 2112.09133; SlowFast operators.py), HOG held against mmpretrain's HOGGenerator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import HOGGenerator
from torch import Tensor, nn

from common import (
    Terms, adamw, agree, clip_all, images, random_mask, randomise, record, start, vector_or, versions,
)  # fmt: skip
from vit import Encoder, settings

BATCH = 2
SHAPE = {"image": 48, "patch": 16, "dim": 16, "heads": 2, "positions": "learned"}
BINS, CELL, WINDOW = 9, 8, 16


def hog(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, C, bins, H / 8, W / 8], unit length over bins."""
    b, c, h, w = x.shape
    x = F.pad(x, (1, 1, 1, 1), mode="reflect")

    def smooth(t: Tensor, axis: int) -> Tensor:
        n = t.shape[axis] - 2
        return t.narrow(axis, 0, n) + 2 * t.narrow(axis, 1, n) + t.narrow(axis, 2, n)

    def slope(t: Tensor, axis: int) -> Tensor:
        n = t.shape[axis] - 2
        return t.narrow(axis, 0, n) - t.narrow(axis, 2, n)

    gx, gy = slope(smooth(x, 2), 3), slope(smooth(x, 3), 2)
    phase = torch.atan2(gx, gy) / math.pi * BINS
    border = gx == 0  # exactly, at the first and the last column, by reflection
    assert border[..., [0, -1]].all() and not border[..., 1:-1].any()
    assert (phase - phase.round())[~border].abs().min() > 1e-5, "an angle lies on the edge of a bin"
    line = torch.exp(-0.5 * ((torch.arange(WINDOW) - (WINDOW - 1) / 2) / (WINDOW // 2)) ** 2)
    window = line[:, None] * line / line.sum() ** 2
    magnitude = (gx.square() + gy.square()).sqrt() * window.repeat(h // WINDOW, w // WINDOW)
    bins = F.one_hot(phase.floor().long() % BINS, BINS) * magnitude[..., None]
    cells = bins.reshape(b, c, h // CELL, CELL, w // CELL, CELL, BINS).sum(dim=(3, 5)).permute(0, 1, 4, 2, 3)
    return cells / cells.norm(dim=2, keepdim=True).clamp(min=1e-12)


def per_patch(cells: Tensor) -> Tensor:
    """[B, C, bins, R, S] to [B, patches, C * bins * 2 * 2]: channel and bin, then the cell's row, then its column."""
    b, c, k, r, s = cells.shape
    cells = cells.reshape(b, c * k, r // 2, 2, s // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(b, (r // 2) * (s // 2), c * k * 4)


def check_hog(x: Tensor) -> None:
    """mmpretrain computes in float32 and cuts patches for 14 x 14 only, so cells are compared."""
    peer = HOGGenerator()
    peer._reshape = lambda cells: cells
    torch.set_default_dtype(torch.float32)
    found = peer.float()(x.float()).double()
    torch.set_default_dtype(torch.float64)
    agree("HOGGenerator", hog(x), found, 1e-6)


def make(seed: int = 12) -> None:
    start(seed)
    config = settings(BATCH, **SHAPE) | {
        "bins": BINS, "cell_size": CELL, "window": WINDOW,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05}, "clip": 0.02,
    }  # fmt: skip
    encoder = Encoder(**SHAPE, mask_token=True)
    head = nn.Linear(16, 3 * BINS * 4)
    model = nn.ModuleDict({"encoder": encoder, "head": head})
    randomise(model, 0.1)
    mask = torch.cat([random_mask(1, 9, n) for n in (4, 3)])
    inputs = {"view": images(BATCH, 48), "mask": mask}
    check_hog(inputs["view"])
    target = per_patch(hog(inputs["view"]))

    def forward(step: int) -> tuple[Terms, Terms]:
        predicted = head(encoder(inputs["view"], mask=mask).patches)
        loss = ((predicted - target).square().mean(dim=-1) * mask).sum() / mask.sum()
        return {"hog": loss}, {"predicted": predicted, "hog": target}

    record(
        "maskfeat",
        about="MaskFeat: masked patches predict the histogram of gradients of the normalised picture.",
        source=f"{versions('mmpretrain', 'timm', 'torch')}: HOGGenerator",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector_or("mask_token")),
        clip=clip_all(config["clip"]),
        notes=[
            "expect.hog [B, 9, 108]: per patch channel and bin (channel * 9 + bin), then the cell's row, then its "
            "column; no angle lies within 1e-5 bins of the edge of a bin but for the first and last column of "
            "pixels, where reflection makes gx exactly 0 and the bin 0 (for gy < 0 too: 9 mod 9): a sum of other "
            "order that leaves a rounding error there gives bin 8 instead",
            "loss: mean over 108 values, then over all masked patches of the batch (counts differ per image)",
            "the mask token replaces the patch projection's output before positions; learned positions",
            "clip: all gradients by their common norm, factor clip / (norm + 1e-6); decay exempts one-dimensional "
            "parameters and the mask token",
        ],
    )


if __name__ == "__main__":
    make()
