"""RandAugment's operations and the boxes of random crops and random erasing: torchvision's own, on uint8 tensors.

The picture is made here, so that nothing is read: gradients, bars and noise, with levels that few pixels have.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

FILE = Path(__file__).resolve().parent.parent / "augment_rand.safetensors"
# Odd and even sides, wide and tall, and sides that are no multiple of a vector.
WINDOWS = [(0, 0, 37, 53), (5, 3, 40, 32), (2, 7, 19, 64), (1, 1, 23, 9)]
MAGNITUDES = [(9, 31, False), (9, 31, True), (30, 31, True), (5, 11, False)]
ATTEMPTS = 10


def picture(height: int = 46, width: int = 72) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    red = 20 + (y * 160) // height
    green = torch.where((x // 5 + y // 7) % 2 == 0, 200, 60) + x % 13
    blue = torch.randint(40, 180, (height, width))
    return torch.stack([red, green, blue]).to(torch.uint8)


def operations(photo: Tensor) -> tuple[dict[str, list], dict[str, Tensor]]:
    """Every operation as `RandAugment` applies it, each at a window, a magnitude and a sign that differ from its neighbours'."""
    augment = v2.RandAugment()
    steps, results = {}, {}
    for at, (operation, (magnitudes, signed)) in enumerate(augment._AUGMENTATION_SPACE.items()):
        for turn, (level, bins, negative) in enumerate(MAGNITUDES if magnitudes(31, 9, 9) is not None else MAGNITUDES[:2]):
            top, left, height, width = WINDOWS[(at + turn) % len(WINDOWS)]
            image = photo[:, top : top + height, left : left + width]
            strengths = magnitudes(bins, height, width)
            amount = 0.0 if strengths is None else float(strengths[level])
            amount = -amount if signed and negative else amount
            name = f"{operation}_{turn}"
            window = {"top": top, "left": left, "height": height, "width": width, "size": [height, width]}
            steps[name] = [
                ["resized_crop", {**window, "interpolation": "bicubic"}],
                ["augment", {"operation": operation, "magnitude": level, "bins": bins, "negative": negative}],
            ]
            results[f"out.{name}"] = augment._apply_image_or_video_transform(
                image, operation, amount, interpolation=augment.interpolation, fill=augment._fill
            )
    return steps, results


def boxes() -> list[dict]:
    """Boxes with the uniform numbers that they come of: those of a generator that starts at the same place."""
    found = []
    for kind in ("random_resized_crop", "random_erasing"):
        for number in range(24):
            height, width = [(120, 160), (333, 47), (31, 500), (64, 64)][number % 4]
            scale, ratio = [((0.08, 1.0), (0.75, 4 / 3)), ((0.02, 0.33), (0.3, 3.3)), ((0.9, 1.0), (2.0, 3.0))][number % 3]
            image = torch.zeros(3, height, width, dtype=torch.uint8)
            make = {
                "random_resized_crop": lambda: v2.RandomResizedCrop(8, scale=scale, ratio=ratio),
                "random_erasing": lambda: v2.RandomErasing(p=1.0, scale=scale, ratio=ratio),
            }[kind]()
            torch.manual_seed(number)
            params = make.make_params([image])
            if kind == "random_resized_crop":
                box = [params[side] for side in ("top", "left", "height", "width")]
            else:
                box = None if params["v"] is None else [params[side] for side in ("i", "j", "h", "w")]
            torch.manual_seed(number)
            uniform = [torch.empty(1, dtype=torch.float32).uniform_(0, 1).item() for _ in range(2 * ATTEMPTS)]
            found.append(
                {"kind": kind, "picture": [height, width], "scale": scale, "ratio": ratio, "uniform": uniform, "box": box}
            )
    return found


def make() -> None:
    torch.manual_seed(1909)
    photo = picture()
    steps, results = operations(photo)
    metadata = {
        "about": "A picture through RandAugment's operations: `out.NAME` is input.photo after the config's list of steps NAME.",
        "config": json.dumps({"steps": steps, "boxes": boxes()}),
        "notes": json.dumps(["boxes: [top, left, height, width], null where none fits; of `uniform` the first numbers are used, two an attempt"]),
        "seed": "1909",
        "source": f"torchvision {torchvision.__version__.split('+')[0]}, torch {torch.__version__.split('+')[0]} on uint8 tensors",
        "tolerance": json.dumps({"all": "none: equal bytes"}),
    }
    raw = save({"input.photo": photo, **{name: t.contiguous() for name, t in results.items()}}, dict(sorted(metadata.items())))
    FILE.write_bytes(raw)
    print(f"{FILE.name:32} {FILE.stat().st_size / 1e3:4.0f} kB  {len(results) + 1} tensors")
