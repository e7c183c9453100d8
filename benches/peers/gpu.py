"""Training steps of this project beside PyTorch's on one GPU: CMAE and MAE, ViT-S, ViT-B and ViT-L, on pictures of noise.

    python benches/peers/gpu.py                                   # all of it, at most ten minutes
    python benches/peers/gpu.py --models cmae_vitb --batch 128    # one of six, smaller
    python benches/peers/gpu.py --device cpu --tiny               # the whole script without a GPU

Needs torch, a release build of cmaec, and a PJRT plugin that it finds (`cmaec devices`); no network. Rows of a model:

    ours             cmaec bench pipelines/MODEL.cmae --backend xla
    eager            PyTorch, flash attention
    compiled-flash   torch.compile, flash attention
    compiled-cudnn   torch.compile, cuDNN's attention

PyTorch's steps are the method of the pipelines at the same sizes: masks drawn anew, forward, backward, fused AdamW and, for
CMAE, the averages; bf16 by autocast over f32 weights. Where it can be, the comparison leans PyTorch's way: its pictures lie on
the device already while ours are uploaded in each step, its times are those between two events on the device while ours are the
host's, it reads no loss, and it computes no monitors. That both train as much is checked: the numbers of trained parameters must
be equal.

First, losses of two small pipelines on xla are held against those of the backend cpu: see `tolerance`. Each row runs in a process
of its own; one that fails says why in its place and the others go on. The exit code is 0 where all checks and rows came out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = {"cuda": ("eager", "compiled-flash", "compiled-cudnn"), "cpu": ("eager", "compiled-flash")}


@dataclasses.dataclass(frozen=True)
class Net:
    """Sizes of a pipeline; what MAE has no use for is left as it is."""

    method: str
    dim: int
    depth: int
    heads: int
    image: int = 224
    patch: int = 16
    decoder: tuple[int, int, int] = (512, 8, 16)  # dim, depth, heads of the pixel decoder
    feature_depth: int = 2  # the feature decoder is as wide as the pixel decoder
    hidden: int = 1536  # of projector and predictor
    out: int = 256

    @property
    def side(self) -> int:
        return self.image // self.patch

    def tiny(self) -> Net:
        small = {"dim": self.dim // 12, "depth": 2, "heads": 2, "image": 32, "patch": 8}
        return dataclasses.replace(self, **small, decoder=(32, 1, 2), feature_depth=1, hidden=64)

    def sets(self) -> list[str]:
        """What makes the pipeline of these sizes."""

        def vit(name: str, dim: int, depth: int, heads: int) -> list[str]:
            return [f"model.{name}.embed_dim={dim}", f"model.{name}.depth={depth}", f"model.{name}.num_heads={heads}"]

        sets = [f"image_size={self.image}px", f"patch_size={self.patch}px"]
        sets += vit("encoder", self.dim, self.depth, self.heads)
        if self.method == "mae":
            return sets + vit("decoder", *self.decoder)
        sets += vit("pixel_decoder", *self.decoder)
        sets += vit("feature_decoder", self.decoder[0], self.feature_depth, self.decoder[2])
        return sets + [f"model.projector.hidden={self.hidden}", f"model.predictor.hidden={self.hidden}"]


# In the order of their worth, should the time run out.
MODELS = {
    f"{method}_vit{size}": Net(method, *sizes)
    for size, sizes in {"b": (768, 12, 12), "l": (1024, 24, 16), "s": (384, 12, 6)}.items()
    for method in ("cmae", "mae")
}

# ------------------------------------------------------------------------------------------------- PyTorch's step


def peer(net: Net, kind: str, args: argparse.Namespace) -> dict:
    """Times PyTorch's steps; imported here, since only processes of PyTorch's rows need it."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    def positions(dim: int) -> Tensor:
        """Fixed sines and cosines [1 + N, dim], the class token's all zero. The column first for MAE, the row for CMAE."""
        omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
        row, column = torch.meshgrid(*[torch.arange(net.side, dtype=torch.float64)] * 2, indexing="ij")
        first, second = (column, row) if net.method == "mae" else (row, column)
        waves = [wave(at.flatten()[:, None] * omega) for at in (first, second) for wave in (torch.sin, torch.cos)]
        return torch.cat([torch.zeros(1, dim), torch.cat(waves, dim=1)]).float()

    def patches_of(images: Tensor, order: tuple[int, ...]) -> Tensor:
        b, c, _, _ = images.shape
        cells = images.reshape(b, c, net.side, net.patch, net.side, net.patch)
        return cells.permute(order).reshape(b, net.side**2, c * net.patch**2)

    def rows(x: Tensor, ids: Tensor) -> Tensor:
        return x.gather(1, ids[:, :, None].expand(-1, -1, x.shape[2]))

    class Block(nn.Module):
        def __init__(self, dim: int, heads: int):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
            self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

        def forward(self, x: Tensor) -> Tensor:
            b, n, d = x.shape
            q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
            x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
            return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    class Encoder(nn.Module):
        def __init__(self, final_norm: bool):
            super().__init__()
            self.embed = nn.Linear(3 * net.patch**2, net.dim)
            self.cls_token = nn.Parameter(torch.randn(1, 1, net.dim) * 0.02)
            self.register_buffer("positions", positions(net.dim))
            self.blocks = nn.ModuleList(Block(net.dim, net.heads) for _ in range(net.depth))
            self.norm = nn.LayerNorm(net.dim, eps=1e-6) if final_norm else nn.Identity()

        def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
            patches, places = patches_of(images, (0, 2, 4, 1, 3, 5)), self.positions[1:]
            if keep is not None:  # patches that are not encoded are not embedded either
                patches, places = rows(patches, keep), places[keep]
            x = torch.cat([self.cls_token.expand(len(images), -1, -1), self.embed(patches) + places], dim=1)
            for block in self.blocks:
                x = block(x)
            return self.norm(x)

    class Decoder(nn.Module):
        def __init__(self, dim: int, depth: int, heads: int, out: int):
            super().__init__()
            self.embed, self.pred = nn.Linear(net.dim, dim), nn.Linear(dim, out)
            self.mask_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
            self.register_buffer("positions", positions(dim))
            self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
            self.norm = nn.LayerNorm(dim, eps=1e-6)

        def forward(self, latent: Tensor, restore: Tensor) -> Tensor:
            x = self.embed(latent)
            blank = self.mask_token.to(x.dtype).expand(len(x), restore.shape[1] - x.shape[1] + 1, -1)
            x = torch.cat([x[:, :1], rows(torch.cat([x[:, 1:], blank], dim=1), restore)], dim=1) + self.positions
            for block in self.blocks:
                x = block(x)
            return self.pred(self.norm(x)[:, 1:])

    def head(inputs: int) -> nn.Sequential:
        norm = nn.BatchNorm1d(net.hidden, eps=1e-6)
        return nn.Sequential(nn.Linear(inputs, net.hidden), norm, nn.ReLU(), nn.Linear(net.hidden, net.out, bias=False))

    def pixel_loss(pixels: Tensor, images: Tensor, mask: Tensor) -> Tensor:
        target = patches_of(images, (0, 2, 4, 3, 5, 1))
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        errors = (pixels.float() - (target - mean) / (variance + 1e-6).sqrt()).square().mean(-1)
        return (errors * mask).sum() / mask.sum()

    class Mae(nn.Module):
        """He et al. 2022; the smallest quarter of a noise is kept."""

        def __init__(self):
            super().__init__()
            self.encoder = Encoder(final_norm=True)
            self.decoder = Decoder(*net.decoder, out=3 * net.patch**2)

        def forward(self, images: Tensor, _: Tensor) -> tuple[Tensor, ...]:
            kept = net.side**2 // 4
            shuffle = torch.rand(len(images), net.side**2, device=images.device).argsort(1)
            restore = shuffle.argsort(1)
            pixels = self.decoder(self.encoder(images, shuffle[:, :kept]), restore)
            with torch.autocast(args.device, enabled=False):
                return (pixel_loss(pixels, images, (restore >= kept).float()),)

    class Cmae(nn.Module):
        """Huang et al. 2022 as the released code has it; 35 % of groups of 2 × 2 patches are kept."""

        def __init__(self):
            super().__init__()
            dim, _, heads = net.decoder
            self.encoder, self.projector = Encoder(final_norm=True), head(net.dim)
            self.pixel_decoder = Decoder(*net.decoder, out=3 * net.patch**2)
            self.feature_decoder = Decoder(dim, net.feature_depth, heads, out=net.dim)
            self.predictor = head(net.out)
            self.target = nn.ModuleDict({"encoder": Encoder(final_norm=False), "projector": head(net.dim)})
            self.target.requires_grad_(False)

        def mask(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
            side = net.side // 2
            kept = int(side**2 * (1 - 0.65))
            removed = (torch.rand(batch, side**2, device=device).argsort(1).argsort(1) >= kept).float()
            mask = removed.reshape(batch, side, 1, side, 1).expand(-1, -1, 2, -1, 2).reshape(batch, net.side**2)
            shuffle = mask.argsort(stable=True, dim=1)
            return shuffle[:, : 4 * kept], shuffle.argsort(1), mask

        def forward(self, images: Tensor, others: Tensor) -> tuple[Tensor, ...]:
            keep, restore, mask = self.mask(len(images), images.device)
            latent = self.encoder(images, keep)
            pixels = self.pixel_decoder(latent, restore)
            query = self.predictor(self.projector(self.feature_decoder(latent, restore).mean(1)))
            with torch.no_grad():
                key = self.target["projector"](self.target["encoder"](others)[:, 1:].mean(1))
            with torch.autocast(args.device, enabled=False):
                logits = F.normalize(query.float(), dim=1) @ F.normalize(key.float(), dim=1).T / 0.07
                contrastive = 2 * 0.07 * F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
                return pixel_loss(pixels, images, mask), contrastive

        @torch.no_grad()
        def averages(self) -> tuple[list[Tensor], list[Tensor]]:
            named = list(self.target.named_parameters())
            return [average for _, average in named], [self.get_parameter(name) for name, _ in named]

    def initial(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    torch.manual_seed(0)
    if args.device == "cuda":
        # One kind of attention alone: where it cannot be, the row says so.
        torch.backends.cuda.enable_flash_sdp(not kind.endswith("cudnn"))
        torch.backends.cuda.enable_cudnn_sdp(kind.endswith("cudnn"))
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_math_sdp(False)
    elif kind.endswith("cudnn"):
        raise RuntimeError("cuDNN's attention needs --device cuda")
    model = (Cmae() if net.method == "cmae" else Mae()).apply(initial).to(args.device)
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    # Biases, norms and tokens are not decayed: CMAE decays BatchNorm's gain, MAE the tokens, as their sources do.
    gains = [f"{head}.1.weight" for head in ("projector", "predictor")]
    decays = [(v.ndim > 1 and (net.method == "mae" or "token" not in n)) or n in gains for n, v in trained]
    groups = [
        {"params": [v for (_, v), decay in zip(trained, decays) if decay == wanted], "weight_decay": weight_decay}
        for wanted, weight_decay in ((True, 0.05), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.5e-4, betas=(0.9, 0.95), fused=True)
    averages, sources = model.averages() if net.method == "cmae" else ([], [])
    for average, source in zip(averages, sources):
        average.data.copy_(source.data)
    forward = torch.compile(model, dynamic=False) if kind.startswith("compiled") else model
    images, others = torch.randn(2, args.batch, 3, net.image, net.image, device=args.device)

    def step() -> tuple[Tensor, ...]:
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
            losses = forward(images, others)
        sum(losses).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if averages:
            torch._foreach_lerp_(averages, [source.data for source in sources], 1 - 0.996)
        return losses

    start = time.perf_counter()
    losses = [float(loss) for loss in step()]
    first_step_ms = 1e3 * (time.perf_counter() - start)
    for _ in range(args.warmup - 1):
        step()
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(args.steps + 1)]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        torch.cuda.synchronize()
        times = [before.elapsed_time(after) for before, after in zip(events, events[1:])]
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        ends = [time.perf_counter()]
        for _ in range(args.steps):
            step()
            ends.append(time.perf_counter())
        times, memory = [1e3 * (after - before) for before, after in zip(ends, ends[1:])], None
    return {
        "step_ms": statistics.median(times), "step_ms_min": min(times), "step_ms_max": max(times),
        "first_step_ms": first_step_ms, "memory_mb": memory, "losses": losses,
        "trained_parameters": sum(value.numel() for _, value in trained), "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------- rows and checks


def net_of(model: str, args: argparse.Namespace) -> Net:
    return MODELS[model].tiny() if args.tiny else MODELS[model]


class Failed(Exception):
    """Why there is no figure, in a line."""


def output_of(command: list[str], limit: float) -> dict:
    """The JSON that a process ends its output with. It is ended, with what it started, after `limit` seconds."""
    if limit <= 0:
        raise Failed("not run: the time is used up (--budget)")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failed(f"not over after {limit:.0f} s") from None
    lines = out.strip().splitlines()
    if process.returncode != 0 or not lines:
        told = [line.strip() for line in err.splitlines() if line.strip()] or ["nothing on stderr"]
        # The line that says what went wrong, where there is one; else the last.
        named = [line for line in told if line.lower().startswith(("error", "torch.")) or "Error:" in line]
        raise Failed(f"exit code {process.returncode}: {(named or told)[-1][:300]}")
    return json.loads(lines[-1])


def bench(args: argparse.Namespace, pipeline: str, backend: str, limit: float, *more: str) -> dict:
    command = [args.cmaec, "bench", str(ROOT / "pipelines" / f"{pipeline}.cmae"), "--backend", backend, "--json", *more]
    return output_of(command, limit)


def ours(name: str, net: Net, args: argparse.Namespace, limit: float) -> dict:
    sets = [f"data.batch_size={args.batch}", *(net.sets() if args.tiny else [])]
    flags = ["--precision", args.precision, "--steps", str(args.steps), "--warmup", str(args.warmup)]
    line = bench(args, name, "xla", limit, *flags, *(word for value in sets for word in ("--set", value)))
    return line | {"memory_mb": line.get("device_memory_mb")}


def measure(name: str, kind: str, args: argparse.Namespace, limit: float) -> dict:
    if kind == "ours":
        return ours(name, net_of(name, args), args, limit)
    keep = {key: getattr(args, key) for key in ("device", "batch", "steps", "warmup", "precision", "tiny")}
    return output_of([sys.executable, __file__, "--row", json.dumps({"model": name, "kind": kind} | keep)], limit)


def tolerance(loss: str, precision: str) -> float:
    """How far a loss may be off between two backends that are both right.

    One linear layer rounds by u: in f32, whose sums over at most 768 terms add up their roundings as a random walk does,
    √768 · 2⁻²⁴; in bf16, whose sums are in f32, that of the operands, 2⁻⁹. Values of order 1 have passed 2 · 14 layers of
    residual branches, whose errors are independent: √28 · u. A mean squared error near 1 is off by twice what its prediction is
    off by. So is InfoNCE, which hangs on one logit and on the logarithm of the sum of all, but that a cosine's error is divided
    by the temperature, 0.07.
    """
    u = math.sqrt(768) * 2**-24 if precision == "f32" else 2**-9
    bound = 2 * math.sqrt(28) * u
    return bound / 0.07 if loss == "contrastive" else bound


def check(pipeline: str, precision: str, args: argparse.Namespace, limit: float) -> dict:
    """Losses after one update, so that they hang on forward, backward and update."""
    flags = ["--precision", precision, "--steps", "1", "--warmup", "1", "--set", "data.batch_size=8"]
    found = {backend: bench(args, f"bench/{pipeline}", backend, limit, *flags)["losses"] for backend in ("cpu", "xla")}
    off = {loss: abs(value - found["xla"][loss]) for loss, value in found["cpu"].items()}
    allowed = {loss: tolerance(loss, precision) for loss in off}
    if not all(off[loss] <= allowed[loss] for loss in off):  # NaN is no less than anything
        raise Failed(", ".join(f"{loss} is off by {off[loss]:.1e}, allowed is {allowed[loss]:.1e}" for loss in off))
    return {"losses": found, "off": off, "allowed": allowed}


def told(title: str, run) -> dict:
    """What `run` gives, or why it gives nothing; a line of it on stderr."""
    start = time.monotonic()
    try:
        result = run()
    except (Failed, OSError, ValueError, KeyError) as error:
        result = {"failed": f"{error}" if isinstance(error, Failed) else f"{type(error).__name__}: {error}"}
    result["seconds"] = time.monotonic() - start
    print(f"{title}: {result.get('failed', 'done')} ({result['seconds']:.0f} s)", file=sys.stderr, flush=True)
    return result


def table(report: dict) -> str:
    """Images a second, ms, memory, and how many times as fast as the row ours is."""
    lines = []
    for line in report["checks"]:
        figures = (f"{loss} off by {off:.1e} of {line['allowed'][loss]:.1e} allowed" for loss, off in line.get("off", {}).items())
        lines.append(f"check {line['pipeline']} {line['precision']}: {line.get('failed') or ', '.join(figures)}")
    lines += ["", f"{'model':<11}{'what':<16}{'images/s':>10}{'ms':>10}{'memory MB':>11}{'ours ÷ it':>11}"]
    rates = {row["model"]: row["images_per_second"] for row in report["rows"] if row["what"] == "ours" and "failed" not in row}
    for row in report["rows"]:
        name = f"{row['model']:<11}{row['what']:<16}"
        if "failed" in row:
            lines.append(f"{name}{row['failed']}")
            continue
        memory = "–" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}"
        ratio = f"{rates[row['model']] / row['images_per_second']:.2f}" if row["model"] in rates else "–"
        figures = f"{row['images_per_second']:>10.1f}{row['step_ms']:>10.1f}{memory:>11}{ratio:>11}"
        lines.append(f"{name}{figures}{row.get('note', '')}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="which, by commas (default: %(default)s)")
    parser.add_argument("--peers", help="PyTorch's rows, by commas; \"\" for none (default: all that the device has)")
    parser.add_argument("--device", choices=PEERS, default="cuda", help="PyTorch's; ours is the plugin's")
    parser.add_argument("--batch", type=int, help="pictures a step (default: 256; with --tiny 4)")
    parser.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed (default: 20)")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them (default: 5)")
    parser.add_argument("--budget", type=float, default=600, help="seconds in all (default: 600)")
    parser.add_argument("--tiny", action="store_true", help="networks of a few thousand parameters: tests this script")
    parser.add_argument("--no-checks", action="store_true", help="without the comparison of losses with the backend cpu")
    parser.add_argument("--cmaec", help="the binary (default: target/release/cmaec, else the one on the PATH)")
    parser.add_argument("--out", type=Path, default=Path("gpu-peers.json"), help="all figures (default: %(default)s)")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        vars(args).update(json.loads(args.row))
        return args
    args.batch = args.batch or (4 if args.tiny else 256)
    args.models = args.models.split(",")
    args.peers = list(PEERS[args.device]) if args.peers is None else [peer for peer in args.peers.split(",") if peer]
    built = ROOT / "target" / "release" / "cmaec"
    args.cmaec = args.cmaec or (str(built) if built.is_file() else shutil.which("cmaec"))
    unknown = [name for name in args.models if name not in MODELS] + [p for p in args.peers if p not in PEERS["cuda"]]
    if unknown:
        parser.error(f"{', '.join(unknown)}: not known; models are {', '.join(MODELS)}, peers {', '.join(PEERS['cuda'])}")
    if args.cmaec is None:
        parser.error("no cmaec: build it with `cargo build --release`, or name one with --cmaec")
    if min(args.steps, args.warmup) < 1 or args.batch < 2:
        parser.error("--steps and --warmup are at least 1, --batch at least 2")
    return args


def main() -> None:
    args = arguments()
    if args.row:
        print(json.dumps(peer(net_of(args.model, args), args.kind, args)))
        return
    end = time.monotonic() + args.budget

    def left() -> float:
        return end - time.monotonic()

    settings = {key: getattr(args, key) for key in ("device", "batch", "precision", "steps", "warmup", "tiny")}
    report: dict = {"settings": settings, "checks": [], "rows": []}

    def keep(part: str, names: dict, run) -> dict:
        result = names | told(" ".join(names.values()), run)
        report[part].append(result)
        args.out.write_text(json.dumps(report, indent=1) + "\n")  # after each: who ends it early has what there is
        return result

    checks = [("cmae_tiny64", "f32"), ("mae_tiny64", "f32"), ("cmae_tiny64", "bf16")]
    for pipeline, precision in [] if args.no_checks else checks:
        names = {"pipeline": pipeline, "precision": precision}
        keep("checks", names, lambda: check(pipeline, precision, args, left()))
    for model in args.models:
        parameters = None
        for what in ("ours", *args.peers):
            row = keep("rows", {"model": model, "what": what}, lambda: measure(model, what, args, left()))
            if "failed" in row:
                continue
            row["images_per_second"] = args.batch / (row["step_ms"] / 1e3)
            parameters = parameters or row["trained_parameters"]
            if row["trained_parameters"] != parameters:
                row["failed"] = f"trains {row['trained_parameters']} parameters, the row above {parameters}"
            if row.get("micro_batch", args.batch) != args.batch:
                row["note"] = f"  in micro-batches of {row['micro_batch']}"
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
    if any("failed" in result for part in ("checks", "rows") for result in report[part]):
        sys.exit(1)


if __name__ == "__main__":
    main()
