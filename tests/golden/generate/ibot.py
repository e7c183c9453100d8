"""iBOT (Zhou et al. 2022, 2111.07832; bytedance/ibot main_ibot.py), losses held against lightly."""

from __future__ import annotations

import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from torch import Tensor, nn

from common import (
    State, Terms, adamw, agree, clip_each, follower, move, random_mask, randomise, record, single, start, vector,
    versions,
)  # fmt: skip
from dino import (
    BATCH, CLIP_NOTE, FREEZE_NOTE, GLOBALS, HEAD, HEAD_NOTE, K, LOCALS, POSITIONS_NOTE, check_head, crops,
    drop_last_layer, soft_ce,
)  # fmt: skip
from vit import DinoHead, Encoder, settings


def masks() -> dict[str, Tensor]:
    """Different counts; one image has nothing masked."""
    made = {}
    for i, counts in enumerate(((5, 0, 3, 8), (4, 7, 2, 6))):
        made[f"mask_{i}"] = torch.cat([random_mask(1, 16, n) for n in counts])
    return made


def patch_loss(rows: Tensor, mask: Tensor) -> Tensor:
    """Mean over masked patches in each image (count at least 1), then over images."""
    return ((rows * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()


def make(seed: int = 8) -> None:
    start(seed)
    config = settings(BATCH, positions="learned") | {
        "local_size": 8, "head_hidden": HEAD[1], "head_bottleneck": HEAD[2], "prototypes": K,
        "student_temperature": 0.1, "teacher_temperature": 0.05, "teacher_patch_temperature": 0.06,
        "center_momentum": 0.9, "momentum": 0.9,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.04}, "clip_each": 1.0,
        "last_layer_frozen_steps": 1,
    }  # fmt: skip
    online = nn.ModuleDict({"encoder": Encoder(positions="learned", mask_token=True), "head": DinoHead(*HEAD)})
    randomise(online)
    check_head(online["head"])
    center, patch_center = (State(center=single(0.1 * torch.randn(K))) for _ in range(2))
    copies = follower(online)
    model = nn.ModuleDict({**online, "momentum": copies, "center": center, "patch_center": patch_center})
    inputs = crops() | masks()
    hot, cold, cold_patch = (config[f"{n}_temperature"] for n in ("student", "teacher", "teacher_patch"))
    means = {}

    def forward(step: int) -> tuple[Terms, Terms]:
        seen = {v: model["encoder"](inputs[v], mask=inputs[f"mask_{i}"]) for i, v in enumerate(GLOBALS)}
        seen |= {v: model["encoder"](inputs[v]) for v in LOCALS}
        student = {v: model["head"](t.cls) for v, t in seen.items()}
        student_patches = {v: model["head"](seen[v].patches) for v in GLOBALS}
        with torch.no_grad():
            full = {v: copies["encoder"](inputs[v]) for v in GLOBALS}
            teacher = {v: copies["head"](t.cls) for v, t in full.items()}
            teacher_patches = {v: copies["head"](t.patches) for v, t in full.items()}
        pairs = [(u, v) for u in GLOBALS for v in student if u != v]
        cls = sum(soft_ce(teacher[u], student[v], center.center, hot, cold).mean() for u, v in pairs) / len(pairs)
        patch = 0.0
        for i, v in enumerate(GLOBALS):
            rows = soft_ce(teacher_patches[v], student_patches[v], patch_center.center, hot, cold_patch)
            patch = patch + patch_loss(rows, inputs[f"mask_{i}"]) / len(GLOBALS)

        peer = DINOLoss(output_dim=K, student_temp=hot)
        peer.center = center.center[None, None].clone()
        agree("DINOLoss", cls, peer([*teacher.values()], [*student.values()], teacher_temp=cold))
        agree("IBOTPatchLoss", patch, peer_patch_loss(teacher_patches, student_patches))
        means["cls"] = torch.cat([*teacher.values()]).mean(dim=0)
        means["patch"] = torch.cat([*teacher_patches.values()]).mean(dim=(0, 1))
        values = {f"student_{v}": t for v, t in student.items()} | {f"teacher_{v}": t for v, t in teacher.items()}
        values |= {"student_patches_global_0": student_patches["global_0"]}
        values |= {"teacher_patches_global_0": teacher_patches["global_0"]}
        return {"cls": cls, "patch": patch}, values

    def peer_patch_loss(teacher: dict[str, Tensor], student: dict[str, Tensor]) -> Tensor:
        total = 0.0
        for i, v in enumerate(GLOBALS):
            peer = IBOTPatchLoss(output_dim=K, teacher_temp=cold_patch, student_temp=hot)
            peer.center.center = patch_center.center[None].clone()
            mask = inputs[f"mask_{i}"].bool()
            total = total + peer(teacher[v][mask], student[v][mask], mask.reshape(BATCH, 4, 4)) / len(GLOBALS)
        return total

    def update(step: int) -> None:
        m = config["center_momentum"]
        center.center.mul_(m).add_(means["cls"], alpha=1 - m)
        patch_center.center.mul_(m).add_(means["patch"], alpha=1 - m)
        move(copies, model, config["momentum"])

    record(
        "ibot",
        about="iBOT: DINO's loss on class tokens plus the same on masked patches of each global view; shared head.",
        source=f"{versions('lightly', 'timm', 'torch')}: DINOLoss, IBOTPatchLoss; centres as bytedance/ibot",
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
            "mask_0 and mask_1 belong to the student's global views; the mask token replaces the patch projection's "
            "output before positions; teacher and local views see everything; image 1 of mask_0 has no masked patch",
            "cls: mean over the 6 pairs of different views and over images; patch: mean over masked patches of each "
            "image (count at least 1, so an empty mask gives 0), then over images, then over both views",
            "center moves towards the teacher's mean over class tokens, patch_center towards its mean over all "
            "patches, masked or not; both after use; EMA after the optimizer",
        ],
    )


if __name__ == "__main__":
    make()
