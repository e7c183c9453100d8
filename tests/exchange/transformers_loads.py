"""Every method's exported encoder in transformers: strictly loaded by its class, and with the features of `cmaec features`.

Where it is a masked autoencoder: the decoder too, whose loss is that of the same network in timm's blocks; and pictures that have gone through
the image processor are those that the pipeline makes.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import runs
import torch
import transformers

transformers.logging.set_verbosity_error()


def strictly(name: str, folder, **arguments):
    """A model of the class `name`, of which the folder holds every tensor, and no other."""
    model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True, **arguments)
    wrong = {what: keys for what, keys in info.items() if keys and what != "error_msgs"}
    if wrong or info.get("error_msgs"):
        sys.exit(f"{folder}: {name} {wrong} {info.get('error_msgs')}")
    return model.eval()


def pooled(line: str, out) -> np.ndarray:
    """The features, by the line that the card gives."""
    return eval(line.removeprefix("features = "), {"out": out}).numpy()  # noqa: S307: our own line


def check(run: runs.Run, folder, printed: str, told: dict) -> float:
    x = torch.from_numpy(run.pictures)
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    last = printed.strip().splitlines()[-1]
    arguments = {"add_pooling_layer": False} if name in ("ViTModel", "IJepaModel", "BeitModel") else {}
    model = strictly(name, folder, **arguments)
    told["class"] = name
    if name == "ViTMAEForPreTraining":
        told["loss"] = reconstructs(model, x)
        model = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    seen = processor(images=list(run.raw), return_tensors="pt")["pixel_values"]
    told["pictures"] = float((seen - x).abs().max())
    with torch.no_grad():
        return run.error(pooled(last, model(seen)))


def reconstructs(model, x: torch.Tensor) -> float:
    """The loss, finite and that of predictions which are made of all patches alike; it goes down as it is trained on."""
    noise = torch.rand(len(x), model.vit.embeddings.patch_embeddings.num_patches, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = model(x, noise=noise).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert np.isfinite(losses).all() and losses[-1] < losses[0], losses
    return losses[0]


def main() -> None:
    results = []
    with runs.folder() as folder:
        for run in runs.made(folder, sys.argv[1:]):
            to = folder / run.name / "transformers"
            printed = run.export(to, "--format", "transformers", *runs.JUDGED.get(run.name, []))
            told: dict = {}
            error = check(run, to, printed, told)
            if told["class"] == "ViTMAEForPreTraining":
                alone = folder / run.name / "encoder"
                arguments = ["--encoder-only", *runs.JUDGED.get(run.name, [])]
                printed = run.export(alone, "--format", "transformers", *arguments)
                error = max(error, check(run, alone, printed, {}))
            results.append(runs.line(run.name, error, " ".join(f"{k}={v}" for k, v in told.items())))
    runs.told(results)


if __name__ == "__main__":
    main()
