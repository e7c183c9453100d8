"""SIM, Siamese Image Modeling (Tao et al. 2023, 2206.01204; OpenGVLab/Siamese-Image-Modeling models_sim.py).

No peer can be installed; the blocks are timm's with batch norm, and the relative positions and the loss are held
against a second writing of the official code's formulas (util/pos_embed.py, compute_unigrad_loss).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from common import (
    Terms, adamw, agree, another_view, clip_all, follower, images, move, random_ids, randomise, record, start, vector,
    versions,
)  # fmt: skip
from vit import Encoder, settings, sincos, take

BATCH = 4
DIM, GRID, HEADS, RATIO = 16, 4, 2, 1.0
SHAPE = {"dim": DIM, "heads": HEADS, "ratio": RATIO}
PICTURE = (40, 48)  # height, width


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm over images and tokens."""

    def __init__(self, dim: int, **settings) -> None:
        super().__init__(dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).reshape(x.shape)


def batch_norm_blocks(depth: int) -> nn.ModuleList:
    return nn.ModuleList(Block(DIM, HEADS, RATIO, qkv_bias=True, norm_layer=TokenBatchNorm) for _ in range(depth))


class Projector(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(DIM, DIM)
        self.blocks = batch_norm_blocks(depth)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x


class Predictor(nn.Module):
    """Class token, visible patches, and a mask token for each patch of the other view; gives the latter."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(sincos(GRID, GRID, DIM, "y"), requires_grad=False)
        self.relative = nn.Linear(2 * DIM, DIM)
        self.blocks = batch_norm_blocks(depth)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, tokens: Tensor, visible: Tensor, relative: Tensor) -> Tensor:
        places = self.pos_embed.expand(len(tokens), -1, -1)
        own = torch.cat([places[:, :1], take(places[:, 1:], visible)], dim=1)
        x = torch.cat([tokens + own, self.mask_token + self.relative(relative)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.proj(x)[:, -relative.shape[1] :]


def geometry() -> Tensor:
    """[B, 5]: top, left, height, width of the crop in the picture as it is on disk, and 1 if the crop is mirrored."""
    height, width = torch.randint(16, PICTURE[0] + 1, (BATCH,)), torch.randint(16, PICTURE[1] + 1, (BATCH,))
    top = (torch.rand(BATCH) * (PICTURE[0] - height + 1)).floor()
    left = (torch.rand(BATCH) * (PICTURE[1] - width + 1)).floor()
    return torch.stack([top, left, height.double(), width.double(), torch.zeros(BATCH)], dim=1)


def relative_positions(own: Tensor, other: Tensor) -> Tensor:
    """[B, N, 2 D]: centres of the other crop's patches in units of own patches, and the ratio of sizes, as sines."""
    top, left, height, width, flipped = (t[:, None] for t in own.T)
    top2, left2, height2, width2, flipped2 = (t[:, None] for t in other.T)
    centre = (torch.arange(GRID) + 0.5) / GRID
    y = (top2 + centre * height2 - top) / height
    across = torch.where(flipped2 == 1, 1 - centre, centre)
    x = (left2 + across * width2 - left) / width
    x = torch.where(flipped == 1, 1 - x, x)
    rows = (y * GRID - 0.5)[:, :, None].expand(-1, -1, GRID).flatten(1)
    columns = (x * GRID - 0.5)[:, None, :].expand(-1, GRID, -1).flatten(1)
    omega = 10000.0 ** (-torch.arange(DIM // 4) / (DIM / 4))
    parts = [rows, columns, 10 * (height2 / height).log().expand(-1, GRID**2)]
    parts.append(10 * (width2 / width).log().expand(-1, GRID**2))
    return torch.cat([f(p[..., None] * omega) for p in parts for f in (torch.sin, torch.cos)], dim=2)


def official_positions(own: Tensor, other: Tensor) -> Tensor:
    """get_2d_sincos_pos_embed_relative; it mirrors before it crops, so `left` counts from the other side."""

    def turned(g: Tensor) -> Tensor:
        return torch.where(g[:, 4] == 1, PICTURE[1] - g[:, 1] - g[:, 3], g[:, 1])

    j1, j2 = turned(own), turned(other)
    delta_i, delta_j = (other[:, 0] - own[:, 0]) / own[:, 2] * GRID, (j2 - j1) / own[:, 3] * GRID
    delta_h, delta_w = other[:, 2] / own[:, 2], other[:, 3] / own[:, 3]
    flip_delta_j = (PICTURE[1] - j1 - j2) / own[:, 3] * GRID
    raw_h, raw_w = torch.meshgrid(torch.arange(GRID) + 0.5, torch.arange(GRID) + 0.5, indexing="ij")
    grid_h = delta_h[:, None] * raw_h.flatten() + delta_i[:, None]
    grid_w = delta_w[:, None] * raw_w.flatten() + delta_j[:, None]
    flip_w = -delta_w[:, None] * raw_w.flatten() + flip_delta_j[:, None]
    grid_w = torch.where((own[:, 4] != other[:, 4])[:, None], flip_w, grid_w)
    omega = 1.0 / 10000 ** (torch.arange(DIM // 4) / (DIM / 4))
    angles = [(g - 0.5)[..., None] * omega for g in (grid_h, grid_w)]
    angles += [(10 * d.log())[:, None, None] * omega.expand(1, GRID**2, -1) for d in (delta_h, delta_w)]
    return torch.cat([t for a in angles for t in (a.sin(), a.cos())], dim=2)


def make(seed: int = 14) -> None:
    start(seed)
    config = settings(BATCH, **SHAPE) | {
        "patches_visible": 6, "projector_depth": 2, "predictor_depth": 2, "head_heads": HEADS, "head_mlp_ratio": RATIO,
        "negative_weight": 0.02, "target_norm_eps": 1e-5, "bn_eps": 1e-5, "momentum": 0.9, "clip": 1.0,
        "final_norm": False, "adamw": {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.05},
    }  # fmt: skip
    online = nn.ModuleDict({"encoder": Encoder(**SHAPE, final_norm=False), "projector": Projector(2)})
    online["encoder"].patch_embed.requires_grad_(False)
    randomise(online)
    predictor, copies = Predictor(2), follower(online)
    randomise(predictor)
    model = nn.ModuleDict({**online, "predictor": predictor, "momentum": copies})
    first = images(BATCH, 16)
    own, other = geometry(), geometry()
    own[:, 4], other[:, 4] = torch.tensor([0.0, 1, 0, 1]), torch.tensor([0.0, 0, 1, 1])
    visible = random_ids(BATCH, GRID**2, config["patches_visible"])
    inputs = {
        "view_1": first, "view_2": another_view(first), "ids_visible": visible, "geometry_1": own, "geometry_2": other,
    }  # fmt: skip
    relative = relative_positions(own, other)
    agree("relative positions", relative, official_positions(own, other), 1e-11)

    def forward(step: int) -> tuple[Terms, Terms]:
        tokens = model["projector"](model["encoder"](inputs["view_1"], keep=visible).tokens)
        predicted = predictor(tokens, visible, relative)
        move(copies, model, config["momentum"])
        with torch.no_grad():
            target = copies["projector"](copies["encoder"](inputs["view_2"]).tokens)[:, 1:]
            target = F.layer_norm(target, (DIM,), eps=config["target_norm_eps"])
        p, t = predicted.flatten(0, 1), target.flatten(0, 1)
        positive = (p - t).square().sum(dim=1).mean()
        negative = torch.einsum("np,nq,pq->n", p, p, t.T @ t / len(t)).mean()
        loss = (positive + config["negative_weight"] * negative) / DIM
        pairwise = (p @ t.T).square().mean()  # mean_ij (p_i t_j)^2 = mean_i p_i C p_i
        agree("negative term", negative, pairwise)
        values = {"projected": tokens, "predicted": predicted, "target": target, "relative_positions": relative}
        return {"dense": loss}, values | {"positive": positive, "negative": negative}

    record(
        "sim",
        about="SIM: visible patches of one crop predict every patch of another, by relative position; UniGrad.",
        source=f"{versions('timm', 'torch')}: Block with batch norm; formulas of OpenGVLab/Siamese-Image-Modeling",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector),
        clip=clip_all(config["clip"]),
        notes=[
            "geometry: top, left, height, width of the crop in pixels of the unmirrored picture, then 1 if the crop "
            "was mirrored; all four combinations of mirrored crops are there; relative_positions: sin, cos of the row, "
            "the column, 10 log(height_2 / height_1), 10 log(width_2 / width_1), each times "
            "omega_i = 10000^(-i / 4), i = 0..3",
            "batch norm of projector and predictor is over images and tokens (class token among them), eps 1e-5; the "
            "momentum projector keeps running statistics of its own; encoder blocks have LayerNorm, no final norm",
            "in each step: the online pass, then momentum.* <- m momentum.* + (1 - m) source (not the "
            "frozen patch projection), then the target pass with all patches and the class token, which is dropped after the projector",
            "target: normalised over width, no gain or bias, eps 1e-5; positive and negative are before weights and "
            "1 / D; C is the mean of t t^T over all tokens",
            "clip: all gradients by their common norm, factor clip / (norm + 1e-6); decay exempts one-dimensional "
            "parameters, not class and mask token",
        ],
    )


if __name__ == "__main__":
    make()
