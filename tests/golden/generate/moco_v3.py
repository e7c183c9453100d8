"""MoCo v3 (Chen et al. 2021, 2104.02057), held against mmpretrain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmpretrain.models.heads import MoCoV3Head
from torch import Tensor, nn

from common import Terms, adamw, agree, follower, move, nothing, randomise, record, start, versions
from siamese import BATCH, VIEWS_NOTE, head_config, make_head, two_views, unit
from vit import Encoder, settings


def info_nce(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(unit(q) @ unit(k.detach()).T / temperature, torch.arange(len(q)))


def make(seed: int = 2) -> None:
    start(seed)
    head = head_config([24, 32, 32, 16], [False] * 3, [True] * 3, affine=False)
    predictor = head_config([16, 32, 16], [False] * 2, [True] * 2, affine=False)
    config = settings(BATCH) | {
        "projector": head, "predictor": predictor, "temperature": 0.2, "momentum": 0.9,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.1},
    }  # fmt: skip
    online = nn.ModuleDict({"encoder": Encoder(), "projector": make_head(head)})
    online["encoder"].patch_embed.requires_grad_(False)
    randomise(online)
    model = nn.ModuleDict({**online, "predictor": make_head(predictor), "momentum": follower(online)})
    randomise(model["predictor"])
    inputs = two_views()

    def forward(step: int) -> tuple[Terms, Terms]:
        q = {v: model["predictor"](model["projector"](model["encoder"](inputs[f"view_{v}"]).cls)) for v in "ab"}
        move(model["momentum"], model, config["momentum"])
        with torch.no_grad():
            momentum = model["momentum"]
            k = {v: momentum["projector"](momentum["encoder"](inputs[f"view_{v}"]).cls) for v in "ab"}
        t = config["temperature"]
        loss = sum(2 * t * info_nce(q[u], k[v], t) for u, v in ("ab", "ba"))
        check_moco(q, k, t, loss)
        return {"contrast": loss}, {f"query_{v}": q[v] for v in "ab"} | {f"key_{v}": k[v] for v in "ab"}

    record(
        "moco_v3",
        about="MoCo v3: InfoNCE in both directions, EMA moved before the keys are made, frozen patch projection.",
        source=f"{versions('mmpretrain', 'timm', 'torch')}: MoCoV3Head with CrossEntropyLoss(loss_weight=2 tau)",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], nothing),
        notes=[
            VIEWS_NOTE,
            "weight decay acts on every trained parameter, biases, norms and class token too",
            "in each step momentum.* <- m momentum.* + (1 - m) source, then the keys; so the EMA has moved once "
            "before the first keys and twice in after.*; the frozen patch projection's copy is "
            "its source; the EMA leaves running statistics alone",
            "query is the predictor's and key the momentum projector's output before unit length; loss = sum over "
            "(a, b), (b, a) of 2 tau CE; last batch norm of both heads has no gain and no bias",
        ],
    )


@torch.no_grad()
def check_moco(q: dict, k: dict, t: float, loss: Tensor) -> None:
    class Ready(nn.Module):
        """The queries have passed the predictor already."""

        def forward(self, x: tuple) -> list:
            return [x[0]]

    head = MoCoV3Head(
        predictor={"type": "LinearNeck", "in_channels": 1, "out_channels": 1},
        loss={"type": "CrossEntropyLoss", "loss_weight": 2 * t},
        temperature=t,
    )
    head.predictor = Ready()
    peer = head.loss(q["a"], k["b"]) + head.loss(q["b"], k["a"])
    agree("MoCoV3Head", loss, peer)


if __name__ == "__main__":
    make()
