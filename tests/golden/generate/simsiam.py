"""SimSiam (Chen & He 2021, 2011.10566), held against lightly."""

from __future__ import annotations

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead
from torch import nn

from common import Terms, agree, randomise, record, start, trained, versions
from siamese import BATCH, VIEWS_NOTE, check_head, head_config, make_head, two_views, unit
from vit import Encoder, settings


def make(seed: int = 4) -> None:
    start(seed)
    head = head_config([24, 24, 24, 32], [False] * 3, [True] * 3, affine=False)
    predictor = head_config([32, 16, 32], [False, True], [True, False])
    config = settings(BATCH) | {
        "projector": head, "predictor": predictor,
        "sgd": {"lr": [0.05, 0.03], "predictor_lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4},
    }  # fmt: skip
    model = nn.ModuleDict({"encoder": Encoder(), "projector": make_head(head), "predictor": make_head(predictor)})
    randomise(model)
    check_head(model["predictor"], SimSiamPredictionHead(32, 16, 32))
    inputs = two_views()

    def forward(step: int) -> tuple[Terms, Terms]:
        z = {v: model["projector"](model["encoder"](inputs[f"view_{v}"]).cls) for v in "ab"}
        p = {v: model["predictor"](z[v]) for v in "ab"}
        loss = -0.5 * sum((unit(p[u]) * unit(z[v].detach())).sum(dim=1).mean() for u, v in ("ab", "ba"))
        peer = NegativeCosineSimilarity()
        agree("NegativeCosineSimilarity", loss, 0.5 * (peer(p["a"], z["b"].detach()) + peer(p["b"], z["a"].detach())))
        return {"pull": loss}, {f"projected_{v}": z[v] for v in "ab"} | {f"predicted_{v}": p[v] for v in "ab"}

    s = config["sgd"]
    mine = [p for n, p in trained(model) if n.startswith("predictor.")]
    others = [p for n, p in trained(model) if not n.startswith("predictor.")]
    groups = [{"params": others}, {"params": mine, "lr": s["predictor_lr"]}]
    optimizer = torch.optim.SGD(groups, lr=s["lr"][0], momentum=s["momentum"], weight_decay=s["weight_decay"])

    def set_lr(step: int) -> None:
        optimizer.param_groups[0]["lr"] = s["lr"][step]

    record(
        "simsiam",
        about="SimSiam: negative cosine to a stopped projection of the other view; SGD, the predictor at its own rate.",
        source=f"{versions('lightly', 'timm', 'torch')}: NegativeCosineSimilarity, SimSiamPredictionHead",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=optimizer,
        before_optimizer=set_lr,
        notes=[
            VIEWS_NOTE,
            "SGD: g <- g + decay p; v <- momentum v + g (v starts as g); p <- p - lr v; decay acts on all",
            "config.sgd.lr is the rate of each of the two steps, predictor_lr that of the predictor in both",
            "the projector's last batch norm has no gain and no bias; the order of calls is encoder and projector "
            "on a, on b, then the predictor on a, on b",
        ],
    )


if __name__ == "__main__":
    make()
