"""Barlow Twins (Zbontar et al. 2021, 2103.03230), held against lightly."""

from __future__ import annotations

from lightly.loss import BarlowTwinsLoss
from torch import Tensor, nn

from common import LARS_NOTE, Terms, agree, lars, randomise, record, start, vector, versions
from siamese import BATCH, VIEWS_NOTE, head_config, make_head, two_views
from vit import Encoder, settings


def make(seed: int = 5) -> None:
    start(seed)
    head = head_config([24, 32, 32, 16], [False] * 3, [True, True, False])
    config = settings(BATCH) | {
        "projector": head, "off_diagonal_weight": 0.0051, "bn_eps": 1e-5,
        "lars": {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.01, "trust_coefficient": 0.001},
        "lars_vector_lr": 0.0048,
    }  # fmt: skip
    model = nn.ModuleDict({"encoder": Encoder(), "projector": make_head(head)})
    randomise(model)
    inputs = two_views()

    def forward(step: int) -> tuple[Terms, Terms]:
        z = {v: model["projector"](model["encoder"](inputs[f"view_{v}"]).cls) for v in "ab"}

        def normed(x: Tensor) -> Tensor:
            return (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-5).sqrt()

        c = normed(z["a"]).T @ normed(z["b"]) / BATCH
        on = (c.diagonal() - 1).square().sum()
        off = (c - c.diagonal().diag()).square().sum()
        loss = on + config["off_diagonal_weight"] * off
        agree("BarlowTwinsLoss", loss, BarlowTwinsLoss(lambda_param=0.0051)(z["a"].clone(), z["b"].clone()))
        values = {"projected_a": z["a"], "projected_b": z["b"], "correlation": c}
        return {"decorrelate": loss}, values | {"on_diagonal": on, "off_diagonal": off}

    record(
        "barlow_twins",
        about="Barlow Twins: the cross-correlation of both views towards the identity; LARS with two rates.",
        source=f"{versions('lightly', 'timm', 'torch')}: BarlowTwinsLoss, LARS",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=lars(model, config["lars"], vector, {"lr": config["lars_vector_lr"]}),
        notes=[
            VIEWS_NOTE,
            LARS_NOTE,
            "exempt parameters have the rate lars_vector_lr",
            "projections are normalised over the batch: biased variance, eps 1e-5, no running statistics here "
            "(the official code keeps them in a batch norm without gain and bias and never reads them)",
            "on_diagonal and off_diagonal are sums before weights",
        ],
    )


if __name__ == "__main__":
    make()
