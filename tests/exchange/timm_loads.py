"""Every method's exported encoder in timm: strictly loaded, and with the features of `cmaec features`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
CMAEC = os.environ.get("CMAEC", str(ROOT / "target/release/cmaec"))
MEAN, STD = 0.5, 0.25
TOLERANCE = 1e-5  # of the largest value
# Stages of our own, for which timm has no network; and features behind a norm that is no part of the encoder.
OTHER = {"cmae_hybridb", "finetune_vitb"}

# Where features are judged of another module than the one that the file names for export.
JUDGED = {"simdino_vitb": ["--module", "momentum.encoder"]}


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
    known = [f"data.{source}=npy(\"{data}\")" for source in ("train", "val")]
    for setting in [*sets, *known, *view, "data.channels=3", "data.batch_size=16", "train.epochs=1"]:
        more += ["--set", setting]
    cmaec("run", f"pipelines/{pipeline}.cmae", "--out", str(out / "run"), *more)


def main() -> None:
    torch.manual_seed(0)
    common, rows = methods()
    # Sources come from this script.
    common = [s for s in common if not s.startswith("data.")]
    wanted = sys.argv[1:] or [name for name in rows if name not in OTHER]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rng = np.random.default_rng(0)
        coarse = rng.uniform(0, 255, (64, 4, 4, 3))
        pictures = np.clip(np.kron(coarse, np.ones((1, 8, 8, 1))) + rng.normal(0, 20, (64, 32, 32, 3)), 0, 255)
        pictures = pictures.astype(np.uint8)
        data = folder / "pictures"
        data.mkdir()
        for at, picture in enumerate(pictures):
            np.save(data / f"{at:03}.npy", picture)
        x = (torch.tensor(pictures).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
        for name in wanted:
            out = folder / name
            own = [s for s in rows[name] if not s.startswith("data.")]
            # Of the pictures' own size: nothing is resampled.
            view = (f"views.eval=resize((32px, 32px)) |> normalize(mean: {MEAN}, std: {STD})",)
            train(name, common + own, data, out, view)
            encoder, features = out / "encoder.safetensors", out / "features.safetensors"
            cmaec("export", str(out / "run"), "-o", str(encoder), "--format", "timm", *JUDGED.get(name, []))
            cmaec("features", str(out / "run"), "--data", str(data), "-o", str(features))
            with safe_open(encoder, "pt") as file:
                line = file.metadata()["timm"]
            model = eval(line, {"timm": timm, "torch": torch, "functools": __import__("functools")})  # noqa: S307: our own line
            model.load_state_dict(load_file(encoder), strict=True)
            with torch.no_grad():
                found = model.eval()(x)
            expected = load_file(features)["features"]
            error = ((found - expected).abs().max() / expected.abs().max()).item() if found.shape == expected.shape else None
            if error is None or error > TOLERANCE:
                failed.append(name)
            told = f"{error:.1e}" if error is not None else f"{tuple(found.shape)} for {tuple(expected.shape)}"
            print(f"{'ok  ' if name not in failed else 'FAIL'} {name:20} {told}  {line}", flush=True)
    if failed:
        sys.exit(f"{len(failed)} of {len(wanted)} differ: {' '.join(failed)}")


if __name__ == "__main__":
    main()
