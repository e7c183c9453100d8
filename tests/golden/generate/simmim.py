"""SimMIM (Xie et al. 2022, 2111.09886; microsoft/SimMIM) on a ViT, loss held against mmpretrain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmpretrain.models.losses import PixelReconstructionLoss
from torch import nn

from common import Terms, adamw, agree, clip_all, images, random_mask, randomise, record, start, vector_or, versions
from data2vec import BEIT, BEIT_NOTE
from vit import Encoder, check_encoder, settings

BATCH = 4


def make(seed: int = 20) -> None:
    start(seed)
    check_encoder()
    config = settings(BATCH, positions="relative") | {
        "mask_unit": 8, "units_masked": [3, 2, 2, 1], "layer_scale": True, "clip": 0.5,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05},
    }  # fmt: skip
    model = nn.ModuleDict({"encoder": Encoder(**BEIT), "head": nn.Linear(24, 48)})
    randomise(model)
    units = torch.cat([random_mask(1, 4, n) for n in config["units_masked"]]).reshape(BATCH, 2, 2)
    mask = units.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2).flatten(1)
    inputs = {"view": images(BATCH, 16), "mask": mask}
    view = inputs["view"]
    pixels = mask.reshape(BATCH, 1, 4, 4).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)

    def forward(step: int) -> tuple[Terms, Terms]:
        out = model["head"](model["encoder"](view, mask=mask).patches)
        picture = F.pixel_shuffle(out.transpose(1, 2).reshape(BATCH, 48, 4, 4), 4)
        by_hand = out.reshape(BATCH, 4, 4, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(BATCH, 3, 16, 16)
        assert torch.equal(picture, by_hand)
        loss = ((picture - view).abs() * pixels).sum() / (pixels.sum() + 1e-5) / 3
        peer = PixelReconstructionLoss("L1", channel=3)(picture, view, pixels)  # it leaves the 1e-5 out
        agree("PixelReconstructionLoss", loss * (1 + 1e-5 / pixels.sum()), peer)
        return {"recon": loss}, {"head": out, "reconstruction": picture}

    record(
        "simmim",
        about="SimMIM: L1 on masked pixels, mask token in the encoder, a linear head and pixel shuffle.",
        source=f"{versions('mmpretrain', 'timm', 'torch')}: PixelReconstructionLoss, pixel_shuffle",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector_or("cls_token")),
        clip=clip_all(config["clip"]),
        notes=[
            BEIT_NOTE,
            "the mask hides units of 2 x 2 patches (8 px); counts differ per image",
            "loss: sum of |reconstruction - view| over masked pixels / (masked pixels + 1e-5) / 3 channels; pixels as "
            "they are in the view; head's value (c * 4 + y) * 4 + x of patch (r, s) is pixel (4 r + y, 4 s + x) of "
            "channel c",
            "clip: all gradients by their common norm, factor clip / (norm + 1e-6); decay exempts one-dimensional "
            "parameters (layer scale too) and the class token, not the mask token and the bias table",
        ],
    )


if __name__ == "__main__":
    make()
