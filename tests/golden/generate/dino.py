"""DINO (Caron et al. 2021, 2104.14294), held against lightly: DINOLoss, DINOProjectionHead."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor, nn

from common import (
    State, Terms, adamw, agree, another_view, clip_each, follower, images, move, randomise, record, single, start,
    vector, versions,
)  # fmt: skip
from vit import DinoHead, Encoder, settings

BATCH = 4
K = 32
HEAD = [24, 32, 16, K]
GLOBALS = ("global_0", "global_1")
LOCALS = ("local_0", "local_1")
HEAD_NOTE = (
    "head: fc0, GELU, fc1, GELU, fc2, unit length, then rows of last.weight divided by their norm (weight norm with "
    "gain 1; the optimizer moves the direction and does not normalise it)"
)
POSITIONS_NOTE = (
    "local views are 2 x 2 patches: the patch rows of pos_embed are resized from 4 x 4 by torch's bicubic interpolate "
    "(a = -0.75, corners not aligned, no antialias), the class token's row stays"
)
CLIP_NOTE = (
    "clipping is per tensor: g <- g * min(1, clip_each / (|g| + 1e-6)); grad.* is before clipping; decay exempts "
    "biases and norms (one dimension), not class token and positions"
)
FREEZE_NOTE = (
    "in the first step head.last.weight gets no update, no decay and no optimizer state (its gradient is dropped after "
    "clipping), so its AdamW counts the second step as its first"
)


def crops() -> dict[str, Tensor]:
    """Two global views of 16 px and two local ones of 8 px."""
    whole = images(BATCH, 16)
    views = {"global_0": whole, "global_1": another_view(whole)}
    return views | {f"local_{i}": another_view(whole[..., 4 * i : 4 * i + 8, 8 * i : 8 * i + 8]) for i in (0, 1)}


def soft_ce(teacher: Tensor, student: Tensor, center: Tensor, hot: float, cold: float) -> Tensor:
    """-sum softmax((t - c) / T) log softmax(s / T'), the last axis summed."""
    return -(F.softmax((teacher - center) / cold, dim=-1) * F.log_softmax(student / hot, dim=-1)).sum(dim=-1)


@torch.no_grad()
def check_head(head: DinoHead) -> None:
    peer = DINOProjectionHead(*HEAD).double()
    state = [p for n, p in head.state_dict().items() if n != "last.weight"]
    names = [n for n in peer.state_dict() if n.startswith("layers")]
    gain, direction = torch.ones(K, 1), head.last.weight
    wanted = dict(zip(names, state, strict=True)) | {"last_layer.weight_g": gain, "last_layer.weight_v": direction}
    peer.load_state_dict(wanted)
    x = torch.randn(5, HEAD[0])
    agree("DINOProjectionHead", head(x), peer(x))


def drop_last_layer(model: nn.Module, step: int) -> None:
    if step == 0:
        model["head"].last.weight.grad = None


def make(seed: int = 7) -> None:
    start(seed)
    config = settings(BATCH, positions="learned") | {
        "local_size": 8, "head_hidden": HEAD[1], "head_bottleneck": HEAD[2], "prototypes": K,
        "student_temperature": 0.1, "teacher_temperature": 0.04, "center_momentum": 0.9, "momentum": 0.9,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.04}, "clip_each": 1.0,
        "last_layer_frozen_steps": 1,
    }  # fmt: skip
    online = nn.ModuleDict({"encoder": Encoder(positions="learned"), "head": DinoHead(*HEAD)})
    randomise(online)
    check_head(online["head"])
    center = State(center=single(0.1 * torch.randn(K)))
    model = nn.ModuleDict({**online, "momentum": follower(online), "center": center})
    inputs = crops()
    hot, cold = config["student_temperature"], config["teacher_temperature"]
    kept = {}

    def forward(step: int) -> tuple[Terms, Terms]:
        student = {v: model["head"](model["encoder"](inputs[v]).cls) for v in GLOBALS + LOCALS}
        with torch.no_grad():
            teacher = {v: model["momentum"]["head"](model["momentum"]["encoder"](inputs[v]).cls) for v in GLOBALS}
        pairs = [(u, v) for u in GLOBALS for v in student if u != v]
        loss = sum(soft_ce(teacher[u], student[v], center.center, hot, cold).mean() for u, v in pairs) / len(pairs)
        peer = DINOLoss(output_dim=K, student_temp=hot, center_momentum=config["center_momentum"])
        peer.center = center.center[None, None].clone()
        agree("DINOLoss", loss, peer([*teacher.values()], [*student.values()], teacher_temp=cold))
        kept["mean"], kept["peer"] = torch.cat(list(teacher.values())).mean(dim=0), peer.center[0, 0]
        values = {f"student_{v}": t for v, t in student.items()} | {f"teacher_{v}": t for v, t in teacher.items()}
        return {"cls": loss}, values

    def update(step: int) -> None:
        m = config["center_momentum"]
        center.center.mul_(m).add_(kept["mean"], alpha=1 - m)
        agree("DINOLoss center", center.center, kept["peer"])
        move(model["momentum"], model, config["momentum"])

    record(
        "dino",
        about="DINO: two global and two local views, centred teacher, per-tensor clipping, last layer frozen at first.",
        source=f"{versions('lightly', 'timm', 'torch')}: DINOLoss, DINOProjectionHead",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector),
        clip=clip_each(config["clip_each"]),
        before_optimizer=lambda step: drop_last_layer(model, step),
        update=update,
        notes=[
            HEAD_NOTE,
            POSITIONS_NOTE,
            CLIP_NOTE,
            FREEZE_NOTE,
            "student_* and teacher_* are the head's outputs before temperature and centre; the loss is the mean "
            "over the 6 pairs (teacher global u, student view v, u != v) and over images",
            "center <- 0.9 center + 0.1 mean of the teacher's outputs over images and both global views, after use; "
            "EMA after the optimizer",
        ],
    )


if __name__ == "__main__":
    make()
