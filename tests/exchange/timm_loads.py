"""Every method's exported encoder in timm: strictly loaded, and with the features of `cmaec features`."""

from __future__ import annotations

import functools
import sys

import runs
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file


def main() -> None:
    results = []
    with runs.folder() as folder:
        for run in runs.made(folder, sys.argv[1:]):
            encoder = folder / run.name / "encoder.safetensors"
            run.export(encoder, "--format", "timm", *runs.JUDGED.get(run.name, []))
            with safe_open(encoder, "pt") as file:
                line = file.metadata()["timm"]
            model = eval(line, {"timm": timm, "torch": torch, "functools": functools})  # noqa: S307: our own line
            model.load_state_dict(load_file(encoder), strict=True)
            with torch.no_grad():
                found = model.eval()(torch.from_numpy(run.pictures)).numpy()
            results.append(runs.line(run.name, run.error(found), line))
    runs.told(results)


if __name__ == "__main__":
    main()
