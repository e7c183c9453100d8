"""ViT-VQ tokenizers (Peng et al. 2022, 2208.06366, BEiT v2), with pixels as target, and with a perceptual term (PeCo,
Dong et al. 2021, 2111.12710). The codebook is held against mmpretrain's NormEMAVectorQuantizer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmpretrain.models.utils.vector_quantizer import NormEMAVectorQuantizer
from torch import Tensor, nn

from common import State, Terms, adamw, agree, images, randomise, record, start, vector, versions
from vit import Encoder, make_blocks, norm, normalised, patchify, settings, sincos, unpatchify

BATCH = 4
K, CODE = 20, 8
MARGIN = 1e-4  # least difference of distances to the nearest two codes


class TanhMlp(nn.Module):
    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.fc0, self.fc1 = nn.Linear(dim, dim), nn.Linear(dim, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc1(self.fc0(x).tanh())


class CodeDecoder(nn.Module):
    """A ViT on codes: no class token, fixed positions."""

    def __init__(self, grid: int, dim: int, depth: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.embed = nn.Linear(CODE, dim)
        self.pos_embed = nn.Parameter(sincos(grid, grid, dim, "y", prefix=0), requires_grad=False)
        self.blocks = make_blocks(dim, depth, heads, ratio)
        self.norm = norm(dim)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.embed(codes) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def make_tokenizer(dim: int = 24, depth: int = 1, ratio: float = 2.0) -> nn.ModuleDict:
    """Random parts under their names; the codes have unit length."""
    model = nn.ModuleDict(
        {
            "encoder": Encoder(dim=dim, depth=depth, ratio=ratio),
            "to_code": TanhMlp(dim, CODE),
            "codebook": State(codes=F.normalize(torch.randn(K, CODE), dim=1)),
            "decoder": CodeDecoder(4, dim, 1, 3, ratio),
            "to_pixels": TanhMlp(dim, 48),
        }
    )
    randomise(model)
    return model


def encode(model: nn.ModuleDict, view: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors z [B, N, d] and ids [B, N] of the nearest codes (Euclidean; both have unit length)."""
    z = F.normalize(model["to_code"](model["encoder"](view).patches), dim=2)
    distance = (z.detach()[:, :, None] - model["codebook"].codes).square().sum(dim=3)
    near = distance.topk(2, dim=2, largest=False)
    assert (near.values[..., 1] - near.values[..., 0]).min() > MARGIN, "a token lies between two codes"
    return z, near.indices[..., 0]


def decode(model: nn.ModuleDict, codes: Tensor) -> Tensor:
    """Patches [B, N, P * P * C], row, column, channel."""
    return model["to_pixels"](model["decoder"](codes))


@torch.no_grad()
def moved_codes(codes: Tensor, z: Tensor, ids: Tensor, decay: float) -> Tensor:
    """e <- unit(decay e + (1 - decay) unit(mean of its z)); codes without z stay."""
    made = codes.clone()
    for k in range(len(codes)):
        mine = z[ids == k]
        if len(mine):
            made[k] = F.normalize(decay * codes[k] + (1 - decay) * F.normalize(mine.mean(dim=0), dim=0), dim=0)
    return made


def check_quantizer(codes: Tensor, z: Tensor, ids: Tensor, commit: Tensor, decay: float) -> None:
    peer = NormEMAVectorQuantizer(K, CODE, beta=1.0, decay=decay, kmeans_init=False).double().train()
    peer.embedding.weight.data.copy_(codes)
    _, loss, found = peer(z.detach().transpose(1, 2).reshape(BATCH, CODE, 4, 4))
    assert torch.equal(found, ids.flatten())
    agree("NormEMAVectorQuantizer loss", commit, loss)
    agree("NormEMAVectorQuantizer codes", moved_codes(codes, z, ids, decay), peer.embedding.weight)


NOTES = [
    "encoder: class token, fixed sines y first, final norm; z = unit(to_code(patches)), to_code and to_pixels are "
    "fc0, tanh, fc1; ids: nearest code; decoder: embed, fixed sines y first, no class token, blocks, norm; "
    "to_pixels gives each patch in the order row, column, channel",
    "straight through: the decoder's input is z + stop(code - z), so z gets the decoder's gradient as it is and the "
    "codes get none",
    "commit is the mean over tokens and over the code's width of (z - stop(code))^2; recon the mean over patches and "
    "values",
    "codebook.codes after each step: e <- unit(decay e + (1 - decay) unit(mean of the z with this id)), z and ids of "
    "the step's forward pass; codes without tokens stay; codes are of unit length in float64, so not exact in float32",
    f"in both steps a token's nearest two codes differ by more than {MARGIN:g} in squared distance",
    "decay exempts one-dimensional parameters",
]


def run(name: str, about: str, seed: int, eye: Encoder | None, config: dict, notes: list[str]) -> None:
    model = make_tokenizer()
    if eye is not None:
        randomise(eye.requires_grad_(False))
        model["eye"] = eye
    inputs = {"view": images(BATCH, 16)}
    view, codebook, kept = inputs["view"], model["codebook"], {}
    target = patchify(view, 4) if eye else normalised(patchify(view, 4))

    def forward(step: int) -> tuple[Terms, Terms]:
        z, ids = encode(model, view)
        codes = codebook.codes[ids]
        patches = decode(model, z + (codes - z).detach())
        commit = (z - codes).square().mean()
        check_quantizer(codebook.codes, z, ids, commit, config["codebook_decay"])
        kept["codes"] = moved_codes(codebook.codes, z.detach(), ids, config["codebook_decay"])
        used = len(ids.unique())
        assert 3 < used < K, used
        terms = {"recon": (patches - target).square().mean(), "commit": commit}
        if eye:
            seen, wanted = eye(unpatchify(patches, 4)).layers, eye(view).layers
            pairs = [
                (F.normalize(a[:, 1:], dim=2), F.normalize(b[:, 1:], dim=2)) for a, b in zip(seen, wanted, strict=True)
            ]
            terms["see"] = sum((a - b).square().mean() for a, b in pairs) / len(pairs)
        return terms, {"codes": z, "ids": ids, "patches": patches}

    def update(step: int) -> None:
        codebook.codes.copy_(kept["codes"])

    record(
        name,
        about=about,
        source=f"{versions('mmpretrain', 'timm', 'torch')}: NormEMAVectorQuantizer",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector),
        update=update,
        notes=NOTES + notes,
    )


def tokenizer_config() -> dict:
    return settings(BATCH, depth=1) | {
        "vocabulary": K, "code_dim": CODE, "decoder_dim": 24, "decoder_depth": 1, "decoder_heads": 3,
        "commit_weight": 1.0, "codebook_decay": 0.9,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 1e-4},
    }  # fmt: skip


def make_vq(seed: int = 15) -> None:
    start(seed)
    run("vq_tokenizer", "ViT-VQ: codes by the nearest of an EMA codebook, normalised pixels as target.", seed, None,
        tokenizer_config() | {"normalize_pixels": True},
        ["target: pixels of each patch, (x - mean) / sqrt(unbiased variance + 1e-6)"])  # fmt: skip


def make_peco(seed: int = 16) -> None:
    start(seed)
    run("peco_tokenizer", "ViT-VQ with a perceptual term: features of a frozen ViT on the picture and its copy.", seed,
        Encoder(depth=2, ratio=1.0),
        tokenizer_config() | {"normalize_pixels": False, "eye_depth": 2, "eye_mlp_ratio": 1.0, "eye_layers": [1, 2],
                              "see_weight": 1.0},
        ["target: pixels as they are in the view",
         "eye.* is frozen, its input is not: the gradient passes through it into the decoder; see is the mean over "
         "layers of the mean over patches (no class token) and width of (unit(a) - unit(b))^2, where a and b are raw "
         "outputs of block 1 and 2 (counted from 1) on the decoded picture and on the view"])  # fmt: skip


def make() -> None:
    make_vq()
    make_peco()


if __name__ == "__main__":
    make()
