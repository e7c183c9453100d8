"""What all generators share: random values, the loop of two optimizer steps, the file that is written.

A generator builds a tree of modules (`model`), a function that gives the loss terms of one step, and an optimizer;
`record` runs two steps on the same batch and writes one file:

    input.*    what a step reads and does not learn: views, masks, ids, random numbers
    weights.*  every parameter and buffer before the first step
    expect.*   values of the first step; loss_NAME (weights applied), loss_total; step_losses [2, terms + total]
    grad.*     gradient of the total loss of the first step, before any clipping
    after.*    parameters, EMA copies, buffers after two steps; what never changes is left out

All floats are float64. Inputs and weights (codebooks apart) are exact in float32, so that a float32 run starts from the
same numbers.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from lightly.utils.lars import LARS
from safetensors.torch import save
from timm.optim.lars import Lars
from torch import Tensor, nn

OUT = Path(__file__).resolve().parent.parent
STEPS = 2
NULL = 1e-11  # float64 gradients below this are zero but for rounding
TOLERANCE = {"max": 1e-9, "rms": 1e-9, "single": {"max": 1e-3, "rms": 1e-4}}
# Adam turns the rounding noise of a null gradient before a batch norm into steps of up to the rate, in any direction: they
# change no output, but running means see them.
NOISY_MEANS = TOLERANCE | {"single": {"max": 0.05, "rms": 0.05}}
UNROUNDED = ("weights.codebook.codes", "weights.tokenizer.codebook.codes")  # of unit length in float64
Terms = dict[str, Tensor]


def start(seed: int) -> None:
    """Fixes the random numbers, the precision and the order of sums."""
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


def versions(*packages: str) -> str:
    """'torch 2.x, timm 1.x' for the metadata."""
    return ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)


# ---------------------------------------------------------------------------------------------- random values


def single(x: Tensor) -> Tensor:
    """Rounds to what float32 can hold."""
    return x.float().double()


def images(batch: int, size: int, channels: int = 3) -> Tensor:
    """Random images with structure: an offset, a smooth field and a little noise."""
    coarse = torch.randn(batch, channels, 3, 3)
    smooth = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)
    return single(0.5 * torch.randn(batch, channels, 1, 1) + smooth + 0.3 * torch.randn(batch, channels, size, size))


def another_view(x: Tensor) -> Tensor:
    """A view that has something in common with `x`."""
    return single(0.8 * x + 0.4 * images(x.shape[0], x.shape[-1], x.shape[1]))


def random_ids(batch: int, total: int, count: int) -> Tensor:
    """`count` different ids below `total` for each image, ascending."""
    return torch.rand(batch, total).argsort(dim=1)[:, :count].sort(dim=1).values


def random_mask(batch: int, total: int, count: int) -> Tensor:
    """1 at `count` random places of each image, else 0."""
    return torch.zeros(batch, total).scatter(1, random_ids(batch, total, count), 1.0)


@torch.no_grad()
def randomise(model: nn.Module, scale: float = 0.2) -> None:
    """Values for which every parameter matters: no zero bias, no unit gain, no small token."""
    for name, p in model.named_parameters():
        if re.search(r"pos_embed$", name) and not p.requires_grad:
            continue
        noise = torch.randn_like(p)
        if re.search(r"bias$", name):
            p.copy_(0.1 * noise)
        elif re.search(r"gamma", name):
            p.copy_(0.4 + 0.05 * noise)
        elif p.ndim == 1:
            p.copy_(1 + 0.1 * noise)
        elif re.search(r"token|pos_embed|bias_table|prototypes", name):
            p.copy_(0.3 * noise)
        else:
            p.copy_(scale * noise)
        p.copy_(single(p))
    for name, b in model.named_buffers():
        if name.endswith("running_mean"):
            b.copy_(single(0.1 * torch.randn_like(b)))
        elif name.endswith("running_var"):
            b.copy_(single(0.5 + torch.rand_like(b)))


@torch.no_grad()
def follower(source: nn.Module) -> nn.Module:
    """An EMA copy: no gradient, slightly off its source where that is trained, with running statistics of its own."""
    made = copy.deepcopy(source).requires_grad_(False)
    for (name, p), q in zip(made.named_parameters(), source.parameters(), strict=True):
        if q.requires_grad:  # what is frozen never moves: its copy is equal from the start and stays so
            p.copy_(single(p + 0.05 * torch.randn_like(p)))
    for name, b in made.named_buffers():
        if "running" in name:
            b.copy_(single(b * (1 + 0.1 * torch.rand_like(b))))
    return made


@torch.no_grad()
def move(followers: nn.Module, sources: nn.Module, momentum: float) -> None:
    """copy <- momentum * copy + (1 - momentum) * source, trained parameters only."""
    found = dict(sources.named_parameters())
    for name, p in followers.named_parameters():
        if not found[name].requires_grad:
            continue
        p.mul_(momentum).add_(found[name], alpha=1 - momentum)


class State(nn.Module):
    """Tensors that are remembered and not trained by gradients: centres, codebooks."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, t in tensors.items():
            self.register_buffer(name, t)


class Trained(nn.Module):
    """Parameters that belong to no layer: prototypes."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, t in tensors.items():
            self.register_parameter(name, nn.Parameter(t))


# ---------------------------------------------------------------------------------------------- optimizers


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def split_decay(model: nn.Module, exempt: Callable[[str, Tensor], bool]) -> tuple[list, list]:
    """(decayed, exempt) parameters."""
    pairs = trained(model)
    return [p for n, p in pairs if not exempt(n, p)], [p for n, p in pairs if exempt(n, p)]


def vector(name: str, p: Tensor) -> bool:
    """Biases, norms and everything else of one dimension."""
    return p.ndim == 1


def vector_or(*parts: str) -> Callable[[str, Tensor], bool]:
    """One dimension, or a name that ends in one of `parts`."""
    return lambda name, p: p.ndim == 1 or name.endswith(parts)


def nothing(name: str, p: Tensor) -> bool:
    return False


def adamw(model: nn.Module, settings: dict, exempt: Callable[[str, Tensor], bool]) -> torch.optim.Optimizer:
    """torch's AdamW; `settings` has lr, betas, eps, weight_decay."""
    decayed, free = split_decay(model, exempt)
    groups = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], **settings)


def lars(model: nn.Module, settings: dict, exempt: Callable[[str, Tensor], bool], free: dict | None = None) -> LARS:
    """lightly's LARS; exempt parameters get neither decay nor adaptation, and the settings in `free`."""
    check_lars()
    decayed, others = split_decay(model, exempt)
    return LARS([{"params": decayed}, {"params": others, "weight_decay": 0.0} | (free or {})], **settings)


LARS_NOTE = (
    "LARS as lightly and timm have it: for a parameter with decay w > 0, g <- trust * |p| / (|g| + w |p| + 1e-8) * "
    "(g + w p); exempt ones (one dimension) keep their g; then v <- momentum * v + g (v starts as g), p <- p - lr * v. "
    "The official code of SimCLR, BYOL, Barlow Twins and VICReg divides by |g + w p| instead of |g| + w |p|"
)


def check_lars() -> None:
    """lightly's LARS, timm's, and the formula of LARS_NOTE are one."""
    generator = torch.Generator().manual_seed(1)
    p = torch.randn(5, 4, generator=generator)
    first, second = nn.Parameter(p.clone()), nn.Parameter(p.clone())
    peers = [LARS([first], lr=0.3, momentum=0.9, weight_decay=0.01, trust_coefficient=0.001)]
    peers.append(Lars([second], lr=0.3, momentum=0.9, weight_decay=0.01, trust_coeff=0.001))
    v = 0.0
    for _ in range(3):
        g = torch.randn(5, 4, generator=generator)
        first.grad, second.grad = g.clone(), g.clone()
        for peer in peers:
            peer.step()
        v = 0.9 * v + 0.001 * p.norm() / (g.norm() + 0.01 * p.norm() + 1e-8) * (g + 0.01 * p)
        p = p - 0.3 * v
        agree("lightly LARS", p, first.detach())
        agree("timm Lars", p, second.detach())


def clip_each(limit: float) -> Callable[[nn.Module], None]:
    """Each gradient by its own norm, as DINO: factor limit / (norm + 1e-6) where that is below 1."""

    def clip(model: nn.Module) -> None:
        norms = [p.grad.norm() for _, p in trained(model)]
        assert any(n > limit for n in norms) and any(n < limit for n in norms), f"clipping at {limit}: {norms}"
        for (_, p), n in zip(trained(model), norms, strict=True):
            p.grad.mul_((limit / (n + 1e-6)).clamp(max=1.0))

    return clip


def clip_all(limit: float) -> Callable[[nn.Module], None]:
    """All gradients by their common norm: factor limit / (norm + 1e-6) where that is below 1."""

    def clip(model: nn.Module) -> None:
        norm = nn.utils.clip_grad_norm_([p for _, p in trained(model)], limit)
        assert norm > limit, f"clipping at {limit} does nothing, the norm is {norm}"

    return clip


# ---------------------------------------------------------------------------------------------- the run and the file


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers, batch counters left out."""
    return {k: v.detach().clone() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def agree(name: str, found: Tensor, peer: Tensor, tolerance: float = 1e-12) -> None:
    """The plain formula and the peer give the same numbers."""
    error = ((found - peer).abs().max() / peer.abs().max().clamp(min=1e-3)).item()
    assert error <= tolerance, f"{name}: off the peer by {error:.1e}"


def record(
    name: str,
    *,
    about: str,
    source: str,
    seed: int,
    config: dict,
    notes: Iterable[str],
    model: nn.Module,
    inputs: dict[str, Tensor],
    forward: Callable[[int], tuple[Terms, Terms]],
    optimizer: torch.optim.Optimizer,
    clip: Callable[[nn.Module], None] | None = None,
    before_optimizer: Callable[[int], None] | None = None,
    update: Callable[[int], None] | None = None,
) -> None:
    """Runs two steps and writes `name`.safetensors.

    `forward(step)` gives (loss terms, values to record); it may also move EMA copies that move before the forward
    pass. `before_optimizer(step)` stands after clipping, `update(step)` after the optimizer.
    """
    model.train()
    tensors = {f"input.{k}": v for k, v in inputs.items()}
    before = weights(model)
    tensors |= {f"weights.{k}": v for k, v in before.items()}
    losses, gradients = [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        terms, values = forward(step)
        total = sum(terms.values())
        total.backward()
        losses.append(torch.stack([*terms.values(), total]).detach())
        if step == 0:
            values = values | {f"loss_{k}": v for k, v in terms.items()} | {"loss_total": total}
            tensors |= {f"expect.{k}": v.detach().clone() for k, v in values.items()}
            missing = [n for n, p in trained(model) if p.grad is None]
            assert not missing, f"{name}: no gradient reaches {missing}"
            gradients = {n: p.grad.clone() for n, p in trained(model)}
            columns = [*terms, "total"]
        if clip:
            clip(model)
        if before_optimizer:
            before_optimizer(step)
        optimizer.step()
        if update:
            update(step)
    tensors["expect.step_losses"] = torch.stack(losses)
    tensors |= {f"grad.{k}": v for k, v in gradients.items()}
    after = {k: v for k, v in weights(model).items() if k in gradients or not torch.equal(v, before[k])}
    tensors |= {f"after.{k}": v for k, v in after.items()}
    metadata = {
        "about": about,
        "source": source,
        "seed": str(seed),
        "config": json.dumps(config | {"steps": STEPS, "step_losses": columns}),
        "tolerance": json.dumps(
            {group: TOLERANCE for group in ("expect", "grad", "after")} | {"after.*.running_mean": NOISY_MEANS}
        ),
        "notes": json.dumps(list(notes)),
        "null_gradient": json.dumps(null_gradients(gradients)),
    }
    write(OUT / f"{name}.safetensors", tensors, metadata)
    print(f"  terms {columns}: {[[round(x, 4) for x in row.tolist()] for row in losses]}")
    print(f"  null {null_gradients(gradients)}")


def null_gradients(gradients: dict[str, Tensor]) -> list[str]:
    """Parameters whose gradient is zero in exact arithmetic, as 'name' or 'name[from:to]'."""
    found = []
    for name, g in gradients.items():
        null = (g.abs() < NULL).flatten()
        if null.all():
            found.append(name)
        elif g.ndim == 1 and null.sum() > 1:
            places = null.nonzero().flatten()
            if places[-1] - places[0] + 1 == len(places):
                found.append(f"{name}[{places[0]}:{places[-1] + 1}]")
    return found


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes float64 and int64 only; metadata in order of names, so that equal files are equal bytes."""
    out = {}
    for name, t in tensors.items():
        t = t.detach()
        assert t.dtype in (torch.float64, torch.int64), f"{path.name}: {name} is {t.dtype}"
        assert torch.isfinite(t).all(), f"{path.name}: {name} is not finite"
        if name.startswith(("input.", "weights.")) and t.is_floating_point() and name not in UNROUNDED:
            assert torch.equal(t, single(t)), f"{path.name}: {name} is not exact in float32"
        out[name] = t.clone().contiguous()
    raw = save(out, metadata)
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    print(f"{path.name:32} {path.stat().st_size / 1e3:4.0f} kB  {len(out)} tensors")
