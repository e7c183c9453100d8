"""VICReg (Bardes et al. 2022, 2105.04906), held against lightly."""

from __future__ import annotations

import torch.nn.functional as F
from lightly.loss import VICRegLoss
from torch import nn

from common import LARS_NOTE, Terms, agree, lars, randomise, record, start, vector, versions
from siamese import BATCH, VIEWS_NOTE, head_config, make_head, two_views
from vit import Encoder, settings


def make(seed: int = 6) -> None:
    start(seed)
    head = head_config([24, 32, 32, 16], [True, True, False], [True, True, False])
    config = settings(BATCH) | {
        "projector": head, "invariance_weight": 25.0, "variance_weight": 25.0, "covariance_weight": 1.0,
        "variance_eps": 1e-4,
        "lars": {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01, "trust_coefficient": 0.001},
    }  # fmt: skip
    model = nn.ModuleDict({"encoder": Encoder(), "projector": make_head(head)})
    randomise(model, 0.15)
    inputs = two_views()

    def forward(step: int) -> tuple[Terms, Terms]:
        z = {v: model["projector"](model["encoder"](inputs[f"view_{v}"]).cls) for v in "ab"}
        variance = covariance = 0.0
        for x in z.values():
            variance = variance + 0.5 * F.relu(1 - (x.var(dim=0) + 1e-4).sqrt()).mean()
            centred = x - x.mean(dim=0)
            cov = centred.T @ centred / (BATCH - 1)
            covariance = covariance + (cov - cov.diagonal().diag()).square().sum() / x.shape[1]
        invariance = (z["a"] - z["b"]).square().mean()
        terms = {"invariance": 25 * invariance, "variance": 25 * variance, "covariance": covariance}
        agree("VICRegLoss", sum(terms.values()), VICRegLoss()(z["a"], z["b"]))
        assert all(t > 0 for t in terms.values())
        return terms, {"projected_a": z["a"], "projected_b": z["b"]}

    record(
        "vicreg",
        about="VICReg: invariance, variance (half the sum of both views), covariance (sum of both views); LARS.",
        source=f"{versions('lightly', 'timm', 'torch')}: VICRegLoss, LARS",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=lars(model, config["lars"], vector),
        notes=[
            VIEWS_NOTE,
            LARS_NOTE,
            "variance and covariance are unbiased (B - 1)",
            "the projector's hidden linear layers have a bias before their batch norm, so its gradient is null",
        ],
    )


if __name__ == "__main__":
    make()
