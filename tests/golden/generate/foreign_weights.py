"""Files of weights as other programs write them, and the features that they give: `../weights/`, with `expected.safetensors`.

Each file is of random weights for one small network; `timm_*` and `hf_*` are written by the libraries themselves. Files whose programs have
no package (MAE, MoCo v3, DINO, BEiT, mmpretrain, LightlyTrain) are the same network under the names that their code has: sources stand
with the tables in `src/weights/schemes`. `expected.safetensors` holds `NAME.images` [2, C, H, W] and `NAME.tokens` [2, 1 + N, D] after the
final norm, in float64.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common import OUT, images, randomise, start

FOLDER = OUT / "weights"
DIM, DEPTH, HEADS, RATIO, IMAGE, PATCH = 16, 2, 2, 2, 16, 4
SIZES = {"img_size": IMAGE, "patch_size": PATCH, "embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS, "mlp_ratio": RATIO}
HUGGING = {
    "hidden_size": DIM,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": DIM * RATIO,
    "image_size": IMAGE,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-6,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
Names = OrderedDict[str, Tensor]


def single(state: dict[str, Tensor]) -> Names:
    """What is saved: float32, which holds the values exactly."""
    return OrderedDict((k, v.float() if v.is_floating_point() else v) for k, v in state.items())


def vit(**changes) -> nn.Module:
    made = timm.models.vision_transformer.VisionTransformer(**(SIZES | {"num_classes": 0} | changes))
    randomise(made)
    return made.eval()


@torch.no_grad()
def resized(model: nn.Module, image: int) -> nn.Module:
    """The same network for another size of image, its positions as facebookresearch/mae interpolates them."""
    other = vit(img_size=image)
    state = model.state_dict()
    old, new = IMAGE // PATCH, image // PATCH
    table = state["pos_embed"][:, 1:].reshape(1, old, old, DIM).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=(new, new), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], table.reshape(1, new * new, DIM)], dim=1)
    other.load_state_dict(state)
    return other


def renamed(state: dict[str, Tensor], names: Callable[[str], str]) -> Names:
    return OrderedDict((names(k), v) for k, v in state.items())


def mmpretrain(name: str) -> str:
    """mmpretrain 1.2, models/backbones/vision_transformer.py."""
    for old, new in (
        ("patch_embed.proj", "patch_embed.projection"), ("blocks.", "layers."), ("norm1", "ln1"), ("norm2", "ln2"),
        ("mlp.fc1", "ffn.layers.0.0"), ("mlp.fc2", "ffn.layers.1"),
    ):  # fmt: skip
        name = name.replace(old, new)
    return "ln1" + name.removeprefix("norm") if name.startswith("norm.") else name


def safely(make: Callable[[], nn.Module]) -> nn.Module:
    made = make()
    randomise(made)
    return made.double().eval()


def saved(model: transformers.PreTrainedModel, path: Path) -> None:
    """By the library itself, under the names of its files."""
    with tempfile.TemporaryDirectory() as folder:
        model.float().save_pretrained(folder)
        model.double()
        path.write_bytes((Path(folder) / "model.safetensors").read_bytes())


def strided(state: Names) -> Names:
    """Equal values in other layouts: a transposed view, and two tensors that share a storage."""
    out = OrderedDict(state)
    weight = state["blocks.0.mlp.fc1.weight"]
    out["blocks.0.mlp.fc1.weight"] = weight.t().contiguous().t()
    both = torch.cat([state["norm.weight"], state["norm.bias"]])
    out["norm.weight"], out["norm.bias"] = both[:DIM], both[DIM:]
    return out


class Attack:
    def __reduce__(self):
        import os

        return os.system, ("echo this was run",)


@torch.no_grad()
def make() -> None:
    start(40)
    FOLDER.mkdir(exist_ok=True)
    expected: dict[str, Tensor] = {}

    def expect(name: str, x: Tensor, tokens: Tensor) -> None:
        expected[f"{name}.images"], expected[f"{name}.tokens"] = x.clone(), tokens.contiguous()

    model = vit()
    x = images(2, IMAGE)
    state = single(model.state_dict())
    expect("vit", x, model.forward_features(x))
    save_file(state, FOLDER / "timm_vit.safetensors")
    torch.save(strided(state), FOLDER / "timm_vit.pth")
    torch.save(state, FOLDER / "timm_vit_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(model.float(), FOLDER / "timm_vit_whole.pt")
    model.double()
    half = OrderedDict((k, v.bfloat16()) for k, v in state.items())
    coarse = vit()
    coarse.load_state_dict({k: v.double() for k, v in half.items()})
    torch.save(half, FOLDER / "timm_vit_bf16.bin")
    expect("bf16", x, coarse.forward_features(x))

    # Another image size, and gray pictures.
    larger = images(2, 24)
    expect("resized", larger, resized(model, 24).forward_features(larger))
    gray = images(2, IMAGE, channels=1)
    expect("gray", gray, model.forward_features(gray.expand(-1, 3, -1, -1)))

    args = argparse.Namespace(batch_size=64, lr=1.5e-4, output_dir=Path("out"))
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    decoder = {
        "mask_token": torch.randn(1, 1, 8), "decoder_pos_embed": torch.randn(1, 17, 8),
        "decoder_embed.weight": torch.randn(8, DIM), "decoder_embed.bias": torch.randn(8),
    }  # fmt: skip
    mae = OrderedDict(state, **single(decoder))
    torch.save({"model": mae, "optimizer": optimizer, "epoch": 3, "args": args}, FOLDER / "mae.pth")
    other = single(vit().state_dict())
    heads = {"head.0.weight": torch.randn(4, DIM).float()}
    moco = renamed(state | heads, lambda k: f"module.base_encoder.{k}")
    moco |= renamed(other | heads, lambda k: f"module.momentum_encoder.{k}")
    torch.save({"epoch": 3, "arch": "vit_base", "state_dict": moco, "optimizer": optimizer}, FOLDER / "moco_v3.pth.tar")
    dino = {
        "student": renamed(other, lambda k: f"module.backbone.{k}"),
        "teacher": renamed(state, lambda k: f"backbone.{k}"),
        "epoch": 3, "args": args,
    }  # fmt: skip
    torch.save(dino, FOLDER / "dino.pth")
    cmae = renamed(renamed(state, mmpretrain), lambda k: f"backbone.{k}")
    cmae |= renamed(renamed(other, mmpretrain), lambda k: f"target_backbone.{k}")
    torch.save({"meta": {"epoch": 3}, "state_dict": cmae}, FOLDER / "mmpretrain.pth")
    lightly = renamed(other, lambda k: f"student_embedding_model.wrapped_model._model.{k}")
    lightly |= renamed(state, lambda k: f"teacher_embedding_model.wrapped_model._model.{k}")
    torch.save({"state_dict": lightly, "global_step": 3}, FOLDER / "lightly_train.ckpt")

    model = safely(lambda: transformers.ViTModel(transformers.ViTConfig(**HUGGING), add_pooling_layer=False))
    expect("hf_vit", x, model(x).last_hidden_state)
    saved(model, FOLDER / "hf_vit.safetensors")
    model.float().save_pretrained(FOLDER / "hf_vit_parts", max_shard_size="10KB")
    model.double()
    (FOLDER / "hf_vit_parts" / "config.json").unlink()
    torch.save(single(model.state_dict()), FOLDER / "hf_vit_in_memory.bin")
    config = transformers.ViTMAEConfig(
        **HUGGING, mask_ratio=0.0, decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )  # fmt: skip
    model = safely(lambda: transformers.ViTMAEForPreTraining(config))
    noise = torch.arange(16.0).expand(2, -1)
    out = model.vit(x, noise=noise)
    expect("hf_mae", x, out.last_hidden_state)
    expected["hf_mae.pixels"] = model.decoder(out.last_hidden_state, out.ids_restore).logits.contiguous()
    saved(model, FOLDER / "hf_mae.safetensors")
    config = transformers.BeitConfig(
        **HUGGING, use_shared_relative_position_bias=True, use_mask_token=True, use_mean_pooling=False, layer_scale_init_value=0.1
    )
    model = safely(lambda: transformers.BeitModel(config, add_pooling_layer=False))
    for layer in range(DEPTH):  # layer scales are named `lambda`, which `randomise` does not know
        for name, p in model.named_parameters():
            if "lambda_" in name:
                p.copy_((0.4 + 0.05 * torch.randn_like(p)).float().double())
    expect("hf_beit", x, model(x).last_hidden_state)
    saved(model, FOLDER / "hf_beit.safetensors")
    # The same network as microsoft/unilm names it, with the index that it keeps beside.
    official = OrderedDict()
    for k, v in load_file(FOLDER / "hf_beit.safetensors").items():
        for old, new in (
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"), ("embeddings.", ""), ("encoder.layer.", "blocks."),
            ("encoder.relative_position_bias.", "rel_pos_bias."), ("attention.output.dense", "attn.proj"),
            ("layernorm_before", "norm1"), ("layernorm_after", "norm2"), ("intermediate.dense", "mlp.fc1"),
            ("lambda_", "gamma_"), ("layernorm.", "norm."),
        ):  # fmt: skip
            k = k.replace(old, new)
        k = k.replace("output.dense", "mlp.fc2") if ".output.dense" in k else k
        official[k] = v
    for i in range(DEPTH):
        parts = [official.pop(f"blocks.{i}.attention.attention.{q}.weight") for q in ("query", "key", "value")]
        official[f"blocks.{i}.attn.qkv.weight"] = torch.cat(parts)
        official[f"blocks.{i}.attn.q_bias"] = official.pop(f"blocks.{i}.attention.attention.query.bias")
        official[f"blocks.{i}.attn.v_bias"] = official.pop(f"blocks.{i}.attention.attention.value.bias")
    official["rel_pos_bias.relative_position_index"] = torch.zeros(17, 17, dtype=torch.int64)
    official["lm_head.weight"] = torch.randn(5, DIM).float()
    torch.save({"model": official}, FOLDER / "beit.pth")
    config = transformers.Dinov2Config(**(HUGGING | {"mlp_ratio": RATIO, "layerscale_value": 0.1, "use_mask_token": False}))
    model = safely(lambda: transformers.Dinov2Model(config))
    for name, p in model.named_parameters():
        if "lambda1" in name:
            p.copy_((0.4 + 0.05 * torch.randn_like(p)).float().double())
    expect("hf_dinov2", x, model(x).last_hidden_state)
    saved(model, FOLDER / "hf_dinov2.safetensors")

    torch.save({"state_dict": {"weight": torch.zeros(3)}, "hook": Attack()}, FOLDER / "attack.pth", pickle_protocol=4)
    (FOLDER / "attack_plain.pth").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(Attack(), 2))
    save_file(expected, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    make()
