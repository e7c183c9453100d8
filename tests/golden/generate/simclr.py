"""SimCLR: NT-Xent (Chen et al. 2020, 2002.05709), held against lightly."""

from __future__ import annotations

import torch
from lightly.loss import NTXentLoss
from torch import Tensor, nn

from common import LARS_NOTE, Terms, agree, lars, randomise, record, start, vector, versions
from siamese import BATCH, VIEWS_NOTE, head_config, make_head, two_views, unit
from vit import Encoder, settings


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Sum of the two halves: mean over rows of a against all other 2B - 1 rows, plus the same for b."""
    z = torch.cat([unit(a), unit(b)])
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    n = len(a)
    positives = torch.cat([torch.arange(n) + n, torch.arange(n)])
    rows = logits.logsumexp(dim=1) - logits[torch.arange(2 * n), positives]
    return rows[:n].mean() + rows[n:].mean()


def make(seed: int = 1) -> None:
    start(seed)
    head = head_config([24, 32, 32, 16], [False, False, False], [True, True, False])
    config = settings(BATCH) | {
        "projector": head, "temperature": 0.1,
        "lars": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "trust_coefficient": 0.001},
    }  # fmt: skip
    model = nn.ModuleDict({"encoder": Encoder(), "projector": make_head(head)})
    randomise(model)
    inputs = two_views()

    def forward(step: int) -> tuple[Terms, Terms]:
        z = {v: model["projector"](model["encoder"](inputs[f"view_{v}"]).cls) for v in "ab"}
        loss = nt_xent(z["a"], z["b"], config["temperature"])
        agree("NTXentLoss", loss, 2 * NTXentLoss(temperature=config["temperature"])(z["a"], z["b"]))
        return {"contrast": loss}, {"projected_a": z["a"], "projected_b": z["b"]}

    record(
        "simclr",
        about="SimCLR: two views, NT-Xent over 2B rows, gradient through both sides, LARS.",
        source=f"{versions('lightly', 'timm', 'torch')}: NTXentLoss, LARS",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=lars(model, config["lars"], vector),
        notes=[
            VIEWS_NOTE,
            LARS_NOTE,
            "the loss is the sum of the two halves, twice what lightly reports",
            "class token after the final norm; no bias in the projector; nothing follows its last linear layer",
        ],
    )


if __name__ == "__main__":
    make()
