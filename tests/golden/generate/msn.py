"""MSN (Assran et al. 2022, 2204.07141; facebookresearch/msn), held against lightly's MSNLoss."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from lightly.loss import MSNLoss
from torch import Tensor, nn

from common import (
    Terms, Trained, adamw, agree, another_view, follower, images, move, randomise, record, start, vector_or, versions,
)  # fmt: skip
from dino import POSITIONS_NOTE
from vit import Encoder, Mlp, settings

BATCH = 4
K = 24
KEPT = 13  # floor(16 * (1 - 0.15))


def probabilities(z: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    return F.softmax(F.normalize(z, dim=1) @ F.normalize(prototypes, dim=1).T / temperature, dim=1)


def sinkhorn(p: Tensor, rounds: int) -> Tensor:
    """Whole matrix to sum 1; then `rounds` times every prototype to 1 / K and every image to 1 / B; rows to sum 1."""
    p = p / p.sum()
    for _ in range(rounds):
        p = p / p.sum(dim=0, keepdim=True) / p.shape[1]
        p = p / p.sum(dim=1, keepdim=True) / p.shape[0]
    return p * p.shape[0]


def make(seed: int = 9) -> None:
    start(seed)
    sizes = [24, 32, 32, 16]
    config = settings(BATCH, positions="learned") | {
        "local_size": 8, "patches_kept": KEPT, "patch_drop": 0.15,
        "projector": {"sizes": sizes, "bias": [True] * 3, "bn": [True, True, False], "activation": "gelu"},
        "prototypes": K, "temperature": 0.1, "sharpen": 0.25, "sinkhorn_rounds": 3, "memax_weight": 1.0,
        "momentum": 0.9, "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.04},
    }  # fmt: skip
    projector = Mlp(sizes, [True] * 3, [True, True, False], act=nn.GELU)
    online = nn.ModuleDict({"encoder": Encoder(positions="learned"), "projector": projector})
    prototypes = Trained(weight=torch.zeros(K, sizes[-1]))
    randomise(online)
    randomise(prototypes)
    copies = follower(online)
    model = nn.ModuleDict({**online, "prototypes": prototypes, "momentum": copies})
    whole = images(BATCH, 16)
    inputs = {"target": whole, "anchor": another_view(whole)}
    inputs |= {f"focal_{i}": another_view(whole[..., 8 * i : 8 * i + 8, 4 * i : 4 * i + 8]) for i in (0, 1)}
    inputs["ids_keep"] = torch.randperm(16)[:KEPT].sort().values[None].expand(BATCH, -1)

    def forward(step: int) -> tuple[Terms, Terms]:
        project, encode = model["projector"], model["encoder"]
        anchor = project(encode(inputs["anchor"], keep=inputs["ids_keep"]).cls)
        focal = project(torch.cat([encode(inputs[f"focal_{i}"]).cls for i in (0, 1)]))
        anchors = torch.cat([anchor, focal])
        with torch.no_grad():
            target = copies["projector"](copies["encoder"](inputs["target"]).cls)
            t = probabilities(target, prototypes.weight, config["temperature"]) ** (1 / config["sharpen"])
            t = sinkhorn(t / t.sum(dim=1, keepdim=True), config["sinkhorn_rounds"])
        p = probabilities(anchors, prototypes.weight, config["temperature"])
        match = -(t.repeat(3, 1) * p.log()).sum(dim=1).mean()
        mean = p.mean(dim=0)
        memax = math.log(K) + (mean * mean.log()).sum()
        peer = MSNLoss(temperature=config["temperature"], sinkhorn_iterations=config["sinkhorn_rounds"])
        agree("MSNLoss", match + memax, peer(anchors, target, prototypes.weight, config["sharpen"]))
        values = {"projected_anchor": anchor, "projected_focal": focal, "projected_target": target}
        return {"match": match, "memax": memax}, values | {"probabilities": p, "targets": t}

    optimizer = adamw(model, config["adamw"], vector_or("prototypes.weight"))
    record(
        "msn",
        about="MSN: a patch-dropped anchor and two focal ones against sharpened, balanced prototypes of the target.",
        source=f"{versions('lightly', 'timm', 'torch')}: MSNLoss; batch norm groups as facebookresearch/msn",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=optimizer,
        update=lambda step: move(copies, model, config["momentum"]),
        notes=[
            POSITIONS_NOTE,
            "ids_keep is one list for the whole batch, repeated per image; only the 16 px anchor drops patches",
            "batch norm runs once per resolution: first the anchor (B rows), then focal_0 and focal_1 together "
            "(2B rows), so running statistics move twice a step, the target's once; eps 1e-5, momentum 0.1",
            "rows of anchors and probabilities: anchor, focal_0, focal_1; targets [B, K] are repeated for each; "
            "the target is sharpened with p^(1 / 0.25) and then balanced; prototypes get no gradient through it and "
            "are those of this step in both branches",
            "memax is log K minus the entropy of the mean anchor probability; no clipping here (the official code "
            "clips the encoder's and projector's common norm, the prototypes not among them)",
            "decay exempts one-dimensional parameters and prototypes; EMA after the optimizer, parameters only",
        ],
    )


if __name__ == "__main__":
    make()
