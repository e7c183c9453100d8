"""SimDINO (Wu et al. 2025, 2502.10385), by the formulas of its official MCRLoss in a second writing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import (
    Terms, adamw, agree, another_view, clip_each, follower, images, move, randomise, record, start, vector, versions,
)  # fmt: skip
from vit import Encoder, settings

BATCH = 4
GLOBALS = ("global_0", "global_1")
VIEWS = (*GLOBALS, "local_0", "local_1")
HIDDEN, OUT = 32, 16


class UnitHead(nn.Module):
    """Three linear layers with GELU, unit length."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc0 = nn.Linear(dim, hidden)
        self.fc1 = nn.Linear(hidden, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(F.gelu(self.fc1(F.gelu(self.fc0(x)))))
        return x / x.norm(dim=-1, keepdim=True)


def crops() -> dict[str, Tensor]:
    """Two global views of 16 px and two local ones of 8 px."""
    whole = images(BATCH, 16)
    views = {"global_0": whole, "global_1": another_view(whole)}
    return views | {f"local_{i}": another_view(whole[..., 4 * i : 4 * i + 8, 8 * i : 8 * i + 8]) for i in (0, 1)}


def coding_rate(x: Tensor, eps: float) -> Tensor:
    """1/2 ln det(I + D / (B eps) x' x), by the determinant of the B x B matrix, which is the same (Sylvester)."""
    rows, dim = x.shape
    factor = dim / (rows * eps)
    rate = 0.5 * torch.linalg.slogdet(torch.eye(rows) + factor * x @ x.T).logabsdet
    agree("the D x D matrix", rate, 0.5 * torch.linalg.eigvalsh(torch.eye(dim) + factor * x.T @ x).log().sum())
    return rate


def make(seed: int = 24) -> None:
    start(seed)
    config = settings(BATCH, positions="learned") | {
        "local_size": 8, "head_hidden": HIDDEN, "features": OUT, "eps": 0.05, "pull_weight": 1.0, "momentum": 0.9,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.04}, "clip_each": 0.5,
    }  # fmt: skip
    online = nn.ModuleDict({"encoder": Encoder(positions="learned"), "head": UnitHead(24, HIDDEN, OUT)})
    randomise(online)
    model = nn.ModuleDict({**online, "momentum": follower(online)})
    inputs = crops()

    def forward(step: int) -> tuple[Terms, Terms]:
        student = {v: model["head"](model["encoder"](inputs[v]).cls) for v in VIEWS}
        with torch.no_grad():
            teacher = {v: model["momentum"]["head"](model["momentum"]["encoder"](inputs[v]).cls) for v in GLOBALS}
        pairs = [(u, v) for u in GLOBALS for v in VIEWS if u != v]
        pull = -config["pull_weight"] * sum((teacher[u] * student[v]).sum(dim=1).mean() for u, v in pairs) / len(pairs)
        rates = [coding_rate((student[v] + teacher[v]) / 2, config["eps"]) for v in GLOBALS]
        expand = -(OUT + BATCH) / (OUT * BATCH) * sum(rates) / len(rates)
        values = {f"student_{v}": z for v, z in student.items()} | {f"teacher_{v}": z for v, z in teacher.items()}
        return {"pull": pull, "expand": expand}, values

    record(
        "simdino",
        about="SimDINO: two global and two local views, cosine to the averaged copy, coding rate of the global features.",
        source=f"{versions('timm', 'torch')}; the formulas of MCRLoss in RobinWu218/SimDINO",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector),
        clip=clip_each(config["clip_each"]),
        update=lambda step: move(model["momentum"], model, config["momentum"]),
        notes=[
            "local views are 2 x 2 patches, their positions as in dino; clipping per tensor as in dino",
            "pull: minus the mean cosine over the 6 pairs (teacher global u, student view v, u != v) and over images",
            "expand: -(D + B) / (D B) times the mean over both global views of 1/2 ln det(I + D / (B eps) z' z), z half the "
            "sum of the student's and the teacher's features (expa_type 1), gradient through the student's alone; z is not "
            "centred and not brought to unit length again",
            "EMA after the optimizer",
        ],
    )


if __name__ == "__main__":
    make()
