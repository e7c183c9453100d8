"""Networks: a ViT of timm's parts under timm's names, and the heads that stand on it.

`Encoder` is assembled from timm's Block, beit.Attention and beit.RelativePositionBias, because timm's own forward
takes neither ids to keep nor a mask; `check_encoder` holds it against timm's VisionTransformer and Beit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models import beit, vision_transformer
from torch import Tensor, nn

from common import agree, randomise

EPS = 1e-6


def sincos(height: int, width: int, dim: int, order: str, prefix: int = 1) -> Tensor:
    """Fixed positions [1, prefix + height * width, dim]; the prefix rows are zero.

    omega_i = 10000^(-i / (dim / 4)). "x": [sin x, cos x, sin y, cos y] (He et al. 2022, facebookresearch/mae
    util/pos_embed.py); "y": [sin y, cos y, sin x, cos x] (Chen et al. 2021, facebookresearch/moco-v3 vits.py has the
    grid that way round).
    """
    omega = 10000.0 ** (-torch.arange(dim // 4) / (dim / 4))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")

    def half(t: Tensor) -> Tensor:
        angle = t.flatten()[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    rows = [half(x), half(y)] if order == "x" else [half(y), half(x)]
    return torch.cat([torch.zeros(prefix, dim), torch.cat(rows, dim=1)])[None].float().double()


def patchify(x: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] to [B, N, P * P * C] in the order row, column, channel (He et al. 2022)."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // patch) * (w // patch), patch * patch * c)


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """The way back."""
    b, n, values = x.shape
    side, c = round(n**0.5), values // patch**2
    x = x.reshape(b, side, side, patch, patch, c).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(b, c, side * patch, side * patch)


def normalised(patches: Tensor) -> Tensor:
    """Each patch to mean 0 and deviation 1: (x - mean) / sqrt(unbiased variance + 1e-6) (He et al. 2022)."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True, correction=1)
    return (patches - mean) / (variance + 1e-6).sqrt()


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """tokens [B, N, D] at ids [B, K]."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))


def norm(dim: int, **settings) -> nn.LayerNorm:
    return nn.LayerNorm(dim, eps=EPS, **settings)


class BeitBlock(vision_transformer.Block):
    """timm's Block with BEiT's attention: bias on queries and values, none on keys; layer scale."""

    def __init__(self, dim: int, heads: int, ratio: float, layer_scale: float | None) -> None:
        super().__init__(dim, heads, ratio, norm_layer=norm, init_values=layer_scale)
        self.attn = beit.Attention(dim, heads, qkv_bias=True)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), attn_mask))
        return x + self.ls2(self.mlp(self.norm2(x)))


def make_blocks(
    dim: int, depth: int, heads: int, ratio: float, layer_scale: float | None = None, beit_bias: bool = False
) -> nn.ModuleList:
    """Pre-norm blocks; erf GELU, LayerNorm eps 1e-6."""
    if beit_bias:
        return nn.ModuleList(BeitBlock(dim, heads, ratio, layer_scale) for _ in range(depth))
    settings = {"qkv_bias": True, "norm_layer": norm, "init_values": layer_scale}
    return nn.ModuleList(vision_transformer.Block(dim, heads, ratio, **settings) for _ in range(depth))


class Tokens(NamedTuple):
    tokens: Tensor  # class token included
    cls: Tensor
    patches: Tensor
    layers: list[Tensor]  # raw outputs of the blocks, class token included


class Encoder(nn.Module):
    """A ViT. `positions`: "x" or "y" (fixed sines), "learned", "relative" (BEiT's shared bias, no table added)."""

    def __init__(
        self,
        *,
        image: int = 16,
        patch: int = 4,
        dim: int = 24,
        depth: int = 2,
        heads: int = 3,
        ratio: float = 2.0,
        positions: str = "y",
        cls: bool = True,
        mask_token: bool = False,
        layer_scale: float | None = None,
        beit_bias: bool = False,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        self.grid = image // patch
        self.patch = patch
        prefix = int(cls)
        if cls:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if mask_token:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        if positions == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, prefix + self.grid**2, dim))
        elif positions != "relative":
            table = sincos(self.grid, self.grid, dim, positions, prefix)
            self.pos_embed = nn.Parameter(table, requires_grad=False)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, patch)})
        self.blocks = make_blocks(dim, depth, heads, ratio, layer_scale, beit_bias)
        if final_norm:
            self.norm = norm(dim)
        if positions == "relative":
            self.rel_pos_bias = beit.RelativePositionBias((self.grid, self.grid), heads)

    def positions(self, grid: int) -> Tensor:
        """The table, for a smaller picture its patch rows resized: bicubic, corners not aligned, no antialias."""
        if grid == self.grid:
            return self.pos_embed
        dim = self.pos_embed.shape[-1]
        table = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, dim).permute(0, 3, 1, 2)
        table = F.interpolate(table, (grid, grid), mode="bicubic", align_corners=False, antialias=False)
        return torch.cat([self.pos_embed[:, :1], table.permute(0, 2, 3, 1).reshape(1, grid * grid, dim)], dim=1)

    def forward(self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None) -> Tokens:
        """`keep` [B, K]: only those patches. `mask` [B, N], 1 = replaced by the mask token, before positions."""
        prefix = int(hasattr(self, "cls_token"))
        grid = x.shape[-1] // self.patch
        tokens = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        if mask is not None:
            tokens = tokens * (1 - mask[..., None]) + self.mask_token * mask[..., None]
        if hasattr(self, "pos_embed"):
            tokens = tokens + self.positions(grid)[:, prefix:]
        if keep is not None:
            tokens = take(tokens, keep)
        if prefix:
            cls = self.cls_token
            if hasattr(self, "pos_embed"):
                cls = cls + self.pos_embed[:, :1]
            tokens = torch.cat([cls.expand(len(x), -1, -1), tokens], dim=1)
        bias = self.rel_pos_bias()[None] if hasattr(self, "rel_pos_bias") else None
        layers = []
        for block in self.blocks:
            tokens = block(tokens, attn_mask=bias)
            layers.append(tokens)
        if hasattr(self, "norm"):
            tokens = self.norm(tokens)
        patches = tokens[:, prefix:]
        return Tokens(tokens, tokens[:, 0] if prefix else patches.mean(dim=1), patches, layers)


class Decoder(nn.Module):
    """MAE's decoder: embed, put back in place, mask token elsewhere, positions, blocks, norm, prediction."""

    def __init__(self, grid: int, dim: int, width: int, depth: int, heads: int, ratio: float, out: int) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(sincos(grid, grid, width, "x"), requires_grad=False)
        self.blocks = make_blocks(width, depth, heads, ratio)
        self.norm = norm(width)
        self.pred = nn.Linear(width, out)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        tokens = self.embed(tokens)
        count = self.pos_embed.shape[1] - 1
        places = keep[..., None].expand(-1, -1, tokens.shape[-1])
        patches = self.mask_token.expand(len(tokens), count, -1).scatter(1, places, tokens[:, 1:])
        x = torch.cat([tokens[:, :1], patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.pred(self.norm(x))[:, 1:]


class Mlp(nn.Module):
    """Linear layers fc0, fc1, ... with batch norms bn0, bn1, ... and an activation after all but the last.

    `bias` and `bn` say for each layer if it has one; `affine` is that of the last layer's batch norm.
    """

    def __init__(
        self,
        sizes: list[int],
        bias: list[bool],
        bn: list[bool],
        affine: bool = True,
        act: type[nn.Module] = nn.ReLU,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.act = act()
        self.count = len(sizes) - 1
        for i in range(self.count):
            self.add_module(f"fc{i}", nn.Linear(sizes[i], sizes[i + 1], bias=bias[i]))
            if bn[i]:
                self.add_module(f"bn{i}", nn.BatchNorm1d(sizes[i + 1], eps=eps, affine=affine or i < self.count - 1))

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.count):
            x = getattr(self, f"fc{i}")(x)
            if hasattr(self, f"bn{i}"):
                x = getattr(self, f"bn{i}")(x)
            if i < self.count - 1:
                x = self.act(x)
        return x


class DinoHead(nn.Module):
    """fc0, GELU, fc1, GELU, fc2, unit length, weight-normed linear whose gain is 1 (Caron et al. 2021).

    `last.weight` is the direction; each of its rows is divided by its norm in the forward pass.
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, out: int) -> None:
        super().__init__()
        self.fc0 = nn.Linear(dim, hidden)
        self.fc1 = nn.Linear(hidden, hidden)
        self.fc2 = nn.Linear(hidden, bottleneck)
        self.last = nn.Linear(bottleneck, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(F.gelu(self.fc1(F.gelu(self.fc0(x)))))
        x = x / x.norm(dim=-1, keepdim=True)
        return x @ (self.last.weight / self.last.weight.norm(dim=1, keepdim=True)).T


def settings(batch: int, **changes) -> dict:
    """The config that says what `Encoder` is made with; `changes` are in its words."""
    words = {
        "image": "image_size",
        "patch": "patch_size",
        "dim": "embed_dim",
        "heads": "num_heads",
        "ratio": "mlp_ratio",
    }
    made = {"image": 16, "patch": 4, "dim": 24, "depth": 2, "heads": 3, "ratio": 2.0, "positions": "y"} | changes
    return {"batch": batch, "channels": 3} | {words.get(k, k): v for k, v in made.items()} | {"norm_eps": EPS}


@torch.no_grad()
def check_encoder() -> None:
    """Equal to timm's VisionTransformer (absolute positions) and to timm's Beit (shared relative bias)."""
    x = torch.randn(2, 3, 16, 16)
    common = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0}
    plain = Encoder(positions="learned", layer_scale=0.1)
    randomise(plain)
    whole = vision_transformer.VisionTransformer(**common, num_classes=0, init_values=0.1)
    whole.load_state_dict(plain.state_dict())
    agree("timm VisionTransformer", plain(x).tokens, whole.forward_features(x))

    ours = Encoder(positions="relative", beit_bias=True, layer_scale=0.1)
    randomise(ours)
    settings = {
        "use_abs_pos_emb": False,
        "use_shared_rel_pos_bias": True,
        "use_rel_pos_bias": False,
        "init_values": 0.1,
    }
    whole = beit.Beit(**common, **settings, num_classes=0, global_pool="token", qkv_bias=True)
    names = {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}
    state = ours.state_dict()
    for old, new in names.items():
        state = {k.replace(old, new): v for k, v in state.items()}
    whole.load_state_dict(state)
    agree("timm Beit", ours(x).tokens, whole.forward_features(x))


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    check_encoder()
    print("Encoder agrees with timm")
