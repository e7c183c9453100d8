"""LeJEPA (Balestriero & LeCun 2025, 2511.08544), held against lightly: LeJEPALoss, SIGReg."""

from __future__ import annotations

import math

import torch
from lightly.loss import LeJEPALoss
from torch import Tensor, nn

from common import Terms, adamw, agree, another_view, images, nothing, randomise, record, single, start, versions
from siamese import head_config, make_head
from vit import Encoder, settings

BATCH = 4
GLOBALS = ("global_0", "global_1")
VIEWS = (*GLOBALS, "local_0", "local_1")
WIDTH, OUT = 20, 16
SLICES = 12


def crops() -> dict[str, Tensor]:
    """Two global views of 16 px and two local ones of 8 px."""
    whole = images(BATCH, 16)
    views = {"global_0": whole, "global_1": another_view(whole)}
    return views | {f"local_{i}": another_view(whole[..., 4 * i : 4 * i + 8, 8 * i : 8 * i + 8]) for i in (0, 1)}


def epps_pulley(x: Tensor, knots: int, reach: float) -> Tensor:
    """B times the integral over -reach..reach of |mean exp(itx) - exp(-t^2/2)|^2 exp(-t^2/2), of each column."""
    t = torch.linspace(-reach, reach, 2 * knots - 1)
    normal = torch.exp(-t.square() / 2)
    empirical = torch.exp(1j * x[..., None] * t).mean(dim=0)
    return len(x) * torch.trapezoid((empirical - normal).abs().square() * normal, t, dim=-1)


def make(seed: int = 23) -> None:
    start(seed)
    head = head_config([WIDTH, 32, 32, OUT], [True, True, True], [True, True, False])
    config = settings(BATCH, positions="learned") | {
        "local_size": 8, "width": WIDTH, "projector": head, "sigreg_share": 0.2, "slices": SLICES, "knots": 17,
        "reach": 3.0, "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05},
    }  # fmt: skip
    share, knots, reach = config["sigreg_share"], config["knots"], config["reach"]
    encoder = Encoder(positions="learned")
    model = nn.ModuleDict({"encoder": encoder, "embed": nn.Linear(24, WIDTH), "projector": make_head(head)})
    randomise(model)
    inputs = crops() | {"normal": single(torch.randn(SLICES, OUT))}
    directions = inputs["normal"] / inputs["normal"].square().sum(dim=1, keepdim=True).sqrt()

    def forward(step: int) -> tuple[Terms, Terms]:
        embedded = [model["embed"](model["encoder"](inputs[v]).cls) for v in VIEWS]
        z = model["projector"](torch.cat(embedded)).reshape(len(VIEWS), BATCH, OUT)
        center = z[: len(GLOBALS)].sum(dim=0) / len(GLOBALS)
        distances = torch.stack([(x - center).square().sum(dim=1) for x in z])
        statistic = torch.stack([epps_pulley(x @ directions.T, knots, reach) for x in z])
        assert not math.isclose(statistic.min().item(), statistic.max().item())
        terms = {"invariance": (1 - share) * distances.mean() / OUT, "gaussian": share * statistic.mean()}
        peer = LeJEPALoss(share, sigreg_knots=knots, sigreg_t_max=reach, sigreg_num_vectors=SLICES)
        peer.sigreg._generate_unit_vectors = lambda *_: directions.T
        # Its table of exp(-t^2 / 2) is float32.
        found = peer(local_proj=z[len(GLOBALS) :], global_proj=z[: len(GLOBALS)])
        agree("LeJEPALoss", sum(terms.values()), found, 1e-6)
        return terms, {f"projected_{v}": x for v, x in zip(VIEWS, z, strict=True)} | {"center": center}

    record(
        "lejepa",
        about="LeJEPA: two global and two local views, the mean of the global ones, SIGReg along given directions.",
        source=f"{versions('lightly', 'timm', 'torch')}: LeJEPALoss, SIGReg",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], nothing),
        notes=[
            "local views are 2 x 2 patches, their positions as in dino",
            "the projector sees all views in one call, in the order global_0, global_1, local_0, local_1: its batch norms "
            "have 16 rows; its hidden linear layers have a bias before their batch norm, whose gradient is null",
            "invariance: mean over views, images and features of (z - center)^2, center the mean of the global views, with "
            "its gradient; times 1 - sigreg_share",
            "gaussian: mean over views and directions of Epps and Pulley's statistic; times sigreg_share. The integral is "
            "over -reach..reach by the trapezoidal rule at 2 knots - 1 places; input.normal holds a direction a row before "
            "it is brought to unit length, the same for all views and both steps",
            "every parameter decays",
        ],
    )


if __name__ == "__main__":
    make()
