"""Every method's exported encoder in transformers: strictly loaded by its class, and with the features of `cmaec features`.

Pictures go through the folder's image processor. Where it is a masked autoencoder, the decoder is loaded too, and transformers trains on for some
steps; MAE's own predictions and loss are held against `pipelines/mae_vitb.cmae` by `cmaec verify`.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import runs
import torch
import transformers
from safetensors.torch import save_file

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
        if run.name == "mae_vitb":
            verified(model, x[:16], folder.parent / "mae_hf.safetensors")
        told["loss"] = trained(model, x)
        model = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    seen = processor(images=list(run.raw), return_tensors="pt")["pixel_values"]
    told["pictures"] = float((seen - x).abs().max())
    with torch.no_grad():
        return run.error(pooled(last, model(seen)))


def noise_for(model, x: torch.Tensor) -> torch.Tensor:
    patches = model.vit.embeddings.patch_embeddings.num_patches
    return torch.rand(len(x), patches, generator=torch.Generator().manual_seed(0))


def trained(model, x: torch.Tensor) -> str:
    """The loss before and after some steps."""
    noise = noise_for(model, x)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = model(x, noise=noise).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert np.isfinite(losses).all() and losses[-1] < losses[0], losses
    return f"{losses[0]:.4f}..{losses[-1]:.4f}"


def verified(model, x: torch.Tensor, path) -> None:
    """What the model predicts is what our pipeline predicts with its weights: by a mapping that knows nothing of the tables that it was written by."""
    noise = noise_for(model, x)
    with torch.no_grad():
        out = model(x, noise=noise)
    tensors = {f"weights.{name}": value.detach().contiguous() for name, value in model.state_dict().items()}
    tensors |= {"input.pixel_values": x, "input.noise": noise, "expect.logits": out.logits, "expect.loss": out.loss}
    config = {k: v for k, v in model.config.to_dict().items() if isinstance(v, (int, float, bool))} | {"batch": len(x)}
    tolerance = {"expect": {"max": runs.TOLERANCE, "rms": runs.TOLERANCE}}
    metadata = {"config": json.dumps(config), "tolerance": json.dumps(tolerance), "null_gradient": "[]"}
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata=metadata)
    runs.cmaec("verify", "--against", str(path), "--map", "tests/golden/maps/mae_hf.ron")


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
