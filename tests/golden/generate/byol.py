"""BYOL (Grill et al. 2020, 2006.07733), held against lightly."""

from __future__ import annotations

import torch
from lightly.loss import NegativeCosineSimilarity
from torch import nn

from common import Terms, adamw, agree, follower, move, nothing, randomise, record, start, versions
from siamese import BATCH, VIEWS_NOTE, head_config, make_head, two_views, unit
from vit import Encoder, settings


def make(seed: int = 3) -> None:
    start(seed)
    head = head_config([24, 32, 16], [True, False], [True, False])
    predictor = head_config([16, 32, 16], [True, False], [True, False])
    config = settings(BATCH) | {
        "projector": head, "predictor": predictor, "momentum": 0.9,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.1},
    }  # fmt: skip
    online = nn.ModuleDict({"encoder": Encoder(), "projector": make_head(head)})
    randomise(online)
    model = nn.ModuleDict({**online, "predictor": make_head(predictor), "momentum": follower(online)})
    randomise(model["predictor"])
    inputs = two_views()

    def forward(step: int) -> tuple[Terms, Terms]:
        q = {v: model["predictor"](model["projector"](model["encoder"](inputs[f"view_{v}"]).cls)) for v in "ab"}
        with torch.no_grad():
            momentum = model["momentum"]
            k = {v: momentum["projector"](momentum["encoder"](inputs[f"view_{v}"]).cls) for v in "ab"}
        loss = sum((unit(q[u]) - unit(k[v])).square().sum(dim=1).mean() for u, v in ("ab", "ba"))
        peer = NegativeCosineSimilarity()
        agree("NegativeCosineSimilarity", loss, 4 + 2 * peer(q["a"], k["b"]) + 2 * peer(q["b"], k["a"]))
        return {"pull": loss}, {f"query_{v}": q[v] for v in "ab"} | {f"key_{v}": k[v] for v in "ab"}

    record(
        "byol",
        about="BYOL: squared distance of unit vectors in both directions, EMA after the optimizer.",
        source=f"{versions('lightly', 'timm', 'torch')}: NegativeCosineSimilarity (loss = 4 + 2 (D_ab + D_ba))",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], nothing),
        update=lambda step: move(model["momentum"], model, config["momentum"]),
        notes=[
            VIEWS_NOTE,
            "weight decay acts on every trained parameter, as MoCo v3",
            "momentum.* uses batch statistics and keeps running statistics of its own; the EMA moves parameters only",
        ],
    )


if __name__ == "__main__":
    make()
