"""Fine-tuning as MAE does it (He et al. 2022, 2111.06377; facebookresearch/mae FINETUNE.md), on timm's VisionTransformer.

The network, the groups of rates that decay by layer, the soft classes and their loss are timm's; CutMix's box is the formula of Yun et
al. 2019, held against torchvision's kernel on the same numbers.
"""

from __future__ import annotations

import math

import torch
from timm.data.mixup import one_hot
from timm.loss import SoftTargetCrossEntropy
from timm.models import VisionTransformer
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torchvision.transforms import v2

from common import Terms, agree, images, randomise, record, single, start, versions
from vit import norm

BATCH, SIDE, CLASSES, DEPTH = 4, 16, 10, 2
MIXUP, CUTMIX, SMOOTHING, DROP, LAYER_DECAY = 0.8, 1.0, 0.1, 0.5, 0.65


class GivenDrop(nn.Module):
    """timm's drop_path with given uniform numbers: a sample is kept where its number is below 1 - rate."""

    def __init__(self, rate: float, drawn: Tensor) -> None:
        super().__init__()
        self.kept, self.drawn = 1 - rate, drawn

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.drawn < self.kept).to(x.dtype) / self.kept


def beta(drawn: Tensor, alpha: float) -> float:
    """A number of Beta(alpha, alpha) (Jöhnk 1964): of pairs (u, v) to the power 1 / alpha the first whose sum is below 1."""
    logs = (1 - drawn).log() / alpha
    first = int((logs[0].exp() + logs[1].exp() < 1).to(torch.int64).argmax())
    return torch.sigmoid(logs[0, first] - logs[1, first]).item()


def cut(view: Tensor, share: float, place: Tensor) -> tuple[Tensor, float]:
    """A box of the sample before, of about 1 - share of the area; and the share that is the sample's own."""
    half = math.sqrt(1 - share) / 2
    centre, reach = [math.floor(p * SIDE) for p in place.flatten().tolist()], math.floor(half * SIDE)
    (top, bottom), (left, right) = ((max(c - reach, 0), min(c + reach, SIDE)) for c in centre)
    mixed = view.clone()
    mixed[..., top:bottom, left:right] = view.roll(1, 0)[..., top:bottom, left:right]
    peer = v2.CutMix(num_classes=CLASSES)
    own = 1 - (bottom - top) * (right - left) / SIDE**2
    params = {"box": (left, top, right, bottom), "batch_size": BATCH, "lam_adjusted": own, "labels": None}
    agree("torchvision CutMix", mixed, peer.transform(view, params))
    assert 0 < own < 1, "a box that mixes nothing, or all"
    return mixed, own


def make(seed: int = 24) -> None:
    start(seed)
    rates = [DROP * i / (DEPTH - 1) for i in range(DEPTH)]
    network = VisionTransformer(
        img_size=SIDE, patch_size=4, embed_dim=24, depth=DEPTH, num_heads=3, num_classes=CLASSES, global_pool="avg",
        fc_norm=True, norm_layer=norm,
    )  # fmt: skip
    model = nn.ModuleDict({"encoder": network})
    randomise(model)
    view = images(BATCH, SIDE)
    labels = torch.randint(CLASSES, (BATCH,))
    inputs = {"view": view, "beside": view.roll(1, 0), "labels": labels, "beside_labels": labels.roll(1, 0)}
    # The first is below a half: the box, not the sum, is what is taken.
    inputs |= {"switch": torch.tensor([0.25]), "mixup": torch.rand(2, 256), "cutmix": torch.rand(2, 256), "place": torch.rand(2, 1)}
    drawn = {f"drop_{block}_{half}": torch.rand(BATCH, 1, 1) for block in range(1, DEPTH) for half in (1, 2)}
    inputs |= drawn
    inputs = {name: single(x) if x.is_floating_point() else x for name, x in inputs.items()}
    for block in range(1, DEPTH):
        for half in (1, 2):
            drop = GivenDrop(rates[block], inputs[f"drop_{block}_{half}"])
            setattr(network.blocks[block], f"drop_path{half}", drop)
    kept = torch.stack([inputs[name] < 1 - DROP for name in drawn])
    assert kept.any() and not kept.all(), "drop path keeps all, or none"

    settings = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05}
    groups = param_groups_layer_decay(
        network, weight_decay=settings["weight_decay"], no_weight_decay_list=network.no_weight_decay(), layer_decay=LAYER_DECAY
    )  # fmt: skip
    scales = sorted({group["lr_scale"] for group in groups})
    assert scales == sorted(LAYER_DECAY**i for i in range(DEPTH + 2)), scales
    for group in groups:
        group["lr"] = settings["lr"] * group["lr_scale"]
    optimizer = torch.optim.AdamW(groups, **settings)

    def soft(classes: Tensor) -> Tensor:
        off = SMOOTHING / CLASSES
        return one_hot(classes, CLASSES, on_value=1 - SMOOTHING + off, off_value=off).double()

    def forward(step: int) -> tuple[Terms, Terms]:
        mixed, own = cut(inputs["view"], beta(inputs["cutmix"], CUTMIX), inputs["place"])
        logits = network(mixed)
        target = own * soft(labels) + (1 - own) * soft(labels.roll(1, 0))
        loss = SoftTargetCrossEntropy()(logits, target)
        agree("cross entropy", nn.functional.cross_entropy(logits, target), loss)
        return {"classification": loss}, {"mixed": mixed, "share": torch.tensor([own]), "logits": logits}

    record(
        "finetune",
        about="Fine-tuning a ViT with classes: CutMix, smoothed classes, drop path, rates that decay by layer, two AdamW steps.",
        source=f"{versions('timm', 'torch', 'torchvision')}: VisionTransformer, param_groups_layer_decay, SoftTargetCrossEntropy",
        seed=seed,
        config={
            "image_size": SIDE, "patch_size": 4, "channels": 3, "embed_dim": 24, "depth": DEPTH, "num_heads": 3,
            "mlp_ratio": 4.0, "batch": BATCH, "classes": CLASSES, "mixup": MIXUP, "cutmix": CUTMIX, "smoothing": SMOOTHING,
            "drop_path": DROP, "layer_decay": LAYER_DECAY, "adamw": settings,
        },
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=optimizer,
        notes=[
            "the mean of the patches goes through fc_norm and head; learned positions; no norm behind the blocks",
            "rates: lr * layer_decay^(depth + 1 - level); level 0 embeds, 1 to depth are the blocks, depth + 1 the rest",
            "decay exempts one-dimensional parameters, positions and the class token",
            "switch < 0.5: the box of CutMix, whose share is made of `cutmix` as Jöhnk 1964 draws Beta; `mixup` is not used",
            "each sample is mixed with the one before it; blocks drop a half where drop_BLOCK_HALF >= 1 - rate",
        ],
    )


if __name__ == "__main__":
    make()
