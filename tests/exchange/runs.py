"""Runs of every pipeline at the reduced sizes of `tests/methods.ron`, and what `cmaec features` makes of some pictures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
CMAEC = os.environ.get("CMAEC", str(ROOT / "target/release/cmaec"))
MEAN, STD = 0.5, 0.25
TOLERANCE = 1e-5  # of the largest value
RATE = 0.03
# Where features are judged of another module than the one that the file names for export.
JUDGED = {"simdino_vitb": ["--module", "momentum.encoder"]}
# Pipelines with a parameter `normalize`, which the step of that name cannot be written beside: their own view of evaluation stays.
OWN_VIEW = {"vq_tokenizer", "pixel_tokenizer", "peco_tokenizer"}
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
# Stages of our own, for which no library has a network; and features behind a norm that is no part of the encoder.
OTHER = {"attentive_vitb", "cmae_hybridb", "finetune_vitb", "linear_vitb", "segment_vitb"}


@dataclass
class Run:
    name: str
    folder: Path
    raw: np.ndarray  # [N, H, W, C], as they lie in the folder
    pictures: np.ndarray  # [N, C, H, W], as the network sees them: cropped and normalised
    features: np.ndarray

    def export(self, output: Path, *arguments: str) -> str:
        return cmaec("export", str(self.folder), "-o", str(output), *arguments)

    def error(self, found: np.ndarray) -> float:
        """The largest difference from `cmaec features`, as a share of the largest value."""
        if found.shape != self.features.shape:
            sys.exit(f"{self.name}: {found.shape} for {self.features.shape}")
        return float(np.abs(found - self.features).max() / np.abs(self.features).max())


def cmaec(*arguments: str) -> str:
    done = subprocess.run([CMAEC, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cmaec {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout


def methods() -> tuple[list[str], dict[str, list[str]]]:
    """Overrides for all methods, and those of each."""
    text = re.sub(r"^\s*//.*$", "", (ROOT / "tests/methods.ron").read_text(), flags=re.M)

    def strings(inner: str) -> list[str]:
        return json.loads("[" + inner.strip().rstrip(",") + "]")

    common = strings(re.search(r"common:\s*\[(.*?)\n\s*\],", text, re.S).group(1))
    row = re.compile(r'pipeline:\s*"([^"]+)",\s*set:\s*\[((?:[^\]"]|"(?:\\.|[^"\\])*")*)\]', re.S)
    return common, {name: strings(sets) for name, sets in row.findall(text)}


def imports(pipeline: str) -> list[tuple[str, str]]:
    """(alias, pipeline) of what a file imports modules of."""
    text = (ROOT / f"pipelines/{pipeline}.cmae").read_text()
    base = re.search(r"^pipeline \w+ = (\w+) with", text, re.M)
    found = re.findall(r"^use pipeline (\w+) as (\w+)", text, re.M)
    return [(alias, name) for name, alias in found] + (imports(base.group(1)) if base else [])


def train(pipeline: str, sets: list[str], data: Path, out: Path, view: tuple[str, ...] = ()) -> None:
    """Some steps; what is imported is trained before it."""
    more = []
    for alias, name in imports(pipeline):
        own = [s.removeprefix(f"{alias}.") for s in sets if s.startswith(f"{alias}.")]
        # An imported pipeline is made small by its own overrides alone.
        train(name, own, data, out / alias)
        more += ["--with", f"{alias}={out / alias / 'run'}"]
    text = (ROOT / f"pipelines/{pipeline}.cmae").read_text()
    sources = [source for source in ("train", "val", "labelled") if source != "labelled" or "data.labelled" in text]
    known = [f"data.{source}=npy(\"{data}\")" for source in sources]
    if "label_maps" in text:
        # Arrays have none; features are made of them all the same.
        known = ['data.train=shapes("train", count: 160)', 'data.val=shapes("val", count: 64)']
    for setting in [*sets, *known, *view, "data.channels=3", "data.batch_size=16", "train.epochs=1"]:
        more += ["--set", setting]
    if not (out / "run/last").exists():
        cmaec("run", f"pipelines/{pipeline}.cmae", "--out", str(out / "run"), *more)


def made(folder: Path, wanted: list[str]) -> Iterator[Run]:
    """A run of each pipeline, in `folder`; those that are there are not trained again."""
    common, rows = methods()
    # Sources come from this script. At a high rate a few steps move what begins at 0 or at one value, biases, scales and tables of
    # positions, far enough for a fault in them to show.
    common = [s for s in common if not s.startswith(("data.", "train.learning_rate="))] + [f"train.learning_rate={RATE}"]
    for name in wanted or [name for name in rows if name not in OTHER]:
        own = [s for s in rows[name] if not s.startswith("data.")]
        side = int(re.findall(r"image_size=(\d+)px", " ".join(common + own))[-1])
        # Of the size that the view asks for, so that nothing is resampled: `eval_view` crops 224 of 256.
        size, view, (mean, std) = side, (), ([MEAN] * 3, [STD] * 3)
        if name in OWN_VIEW:
            size, (mean, std) = side * 256 // 224, IMAGENET
        else:
            view = (f"views.eval=resize(({side}px, {side}px)) |> normalize(mean: {MEAN}, std: {STD})",)
        data = folder / f"pictures{size}"
        if not data.exists():
            paint(data, size)
        out = folder / name
        train(name, common + own, data, out, view)
        features = out / "features.safetensors"
        cmaec("features", str(out / "run"), "--data", str(data), "-o", str(features))
        with safe_open(features, "np") as file:
            names = json.loads(file.metadata()["names"])
        raw = np.stack([np.load(data / name) for name in names])
        at = (size - side) // 2
        seen = raw[:, at : at + side, at : at + side].astype(np.float32) / 255
        seen = (seen - np.float32(mean)) / np.float32(std)
        yield Run(name, out / "run", raw, seen.transpose(0, 3, 1, 2).copy(), load_file(features)["features"])


def paint(data: Path, side: int) -> None:
    """64 pictures of coloured squares with noise, in folders of ten classes."""
    rng = np.random.default_rng(0)
    coarse, noise = rng.uniform(0, 255, (64, 4, 4, 3)), rng.normal(0, 20, (64, side, side, 3))
    pictures = np.clip(np.kron(coarse, np.ones((1, side // 4, side // 4, 1))) + noise, 0, 255).astype(np.uint8)
    for at, picture in enumerate(pictures):
        (data / str(at % 10)).mkdir(parents=True, exist_ok=True)
        np.save(data / f"{at % 10}/{at:03}.npy", picture)


@contextmanager
def folder() -> Iterator[Path]:
    """`$RUNS`, which is kept, or one that is not."""
    kept = os.environ.get("RUNS")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept).resolve()
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def told(results: list[tuple[str, float, str]]) -> None:
    """Ends the script: wrong where one is."""
    failed = [name for name, error, _ in results if not error <= TOLERANCE]
    if failed:
        sys.exit(f"{len(failed)} of {len(results)} differ: {' '.join(failed)}")


def line(name: str, error: float, what: str) -> tuple[str, float, str]:
    print(f"{'ok  ' if error <= TOLERANCE else 'FAIL'} {name:20} {error:.1e}  {what}", flush=True)
    return name, error, what
