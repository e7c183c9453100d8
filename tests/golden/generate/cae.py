"""CAE (Chen et al. 2022, 2202.03026; lxtGH/CAE), regressor, decoder and losses held against mmpretrain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmpretrain.models.losses import CAELoss
from mmpretrain.models.necks import CAENeck
from timm.layers import Mlp
from torch import Tensor, nn

from common import (
    Terms, adamw, agree, clip_all, images, random_ids, randomise, record, start, vector_or, versions,
)  # fmt: skip
from vit import Encoder, make_blocks, norm, settings, take

BATCH = 4
K = 20
MASKED = 9
HEADS = 3


class CrossAttention(nn.Module):
    """Queries, keys and values from different tokens; bias on queries and values."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(dim)) for _ in range(2))
        self.proj = nn.Linear(dim, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)

        q, k, v = heads(self.q(q) + self.q_bias), heads(self.k(k)), heads(self.v(v) + self.v_bias)
        x = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).flatten(2))


class RegressorBlock(nn.Module):
    """The second residual starts from the normalised tokens."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        self.norm_q, self.norm_k, self.norm_v, self.norm2 = (norm(dim) for _ in range(4))
        self.attn = CrossAttention(dim)
        self.gamma_1, self.gamma_2 = (nn.Parameter(torch.zeros(dim)) for _ in range(2))
        self.mlp = Mlp(dim, int(dim * ratio))

    def forward(self, q: Tensor, kv: Tensor, pos_q: Tensor, pos_kv: Tensor) -> Tensor:
        x = q + self.gamma_1 * self.attn(self.norm_q(q + pos_q), self.norm_k(kv + pos_kv), self.norm_v(kv))
        x = self.norm2(x)
        return x + self.gamma_2 * self.mlp(x)


class Regressor(nn.Module):
    def __init__(self, dim: int, depth: int, ratio: float) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(RegressorBlock(dim, ratio) for _ in range(depth))
        self.norm = norm(dim)

    def forward(self, visible: Tensor, pos_visible: Tensor, pos_masked: Tensor) -> Tensor:
        x = self.mask_token.expand(len(visible), pos_masked.shape[1], -1)
        places = torch.cat([pos_visible, pos_masked], dim=1)
        for block in self.blocks:
            x = block(x, torch.cat([visible, x], dim=1), pos_masked, places)
        return self.norm(x)


class Blocks(nn.Module):
    """Ordinary blocks and a norm."""

    def __init__(self, dim: int, depth: int, ratio: float) -> None:
        super().__init__()
        self.blocks = make_blocks(dim, depth, HEADS, ratio, layer_scale=0.1, beit_bias=True)
        self.norm = norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


RENAMED = (
    ("regressor.blocks.", "regressors."), ("regressor.norm.", "norm_regressor."), ("regressor.mask", "mask"),
    ("decoder.blocks.", "decoders."), ("decoder.norm.", "norm_decoder."), ("norm_q.", "norm1_q_cross."),
    ("norm_k.", "norm1_k_cross."), ("norm_v.", "norm1_v_cross."), ("mlp.fc1.", "ffn.layers.0.0."),
    ("mlp.fc2.", "ffn.layers.1."), ("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2"),
)  # fmt: skip


def peer_name(name: str) -> str:
    if name.startswith("regressor.blocks."):
        for old, new in ((".norm2.", ".norm2_cross."), (".attn.", ".cross_attn."), ("gamma_1", "gamma_1_cross"),
                         ("gamma_2", "gamma_2_cross")):  # fmt: skip
            name = name.replace(old, new)
    elif name.startswith("decoder.blocks."):
        name = name.replace(".norm1.", ".ln1.").replace(".norm2.", ".ln2.")
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def make_peer(model: nn.Module) -> CAENeck:
    peer = CAENeck(
        num_classes=K, embed_dims=24, regressor_depth=2, decoder_depth=1, num_heads=HEADS, mlp_ratio=1,
        layer_scale_init_value=0.1, mask_tokens_num=MASKED,
    )  # fmt: skip
    parts = ("regressor.", "decoder.", "head.")
    peer.load_state_dict({peer_name(n): v for n, v in model.state_dict().items() if n.startswith(parts)})
    return peer


def make(seed: int = 13) -> None:
    start(seed)
    config = settings(BATCH, layer_scale=True) | {
        "patches_masked": MASKED, "regressor_depth": 2, "decoder_depth": 1, "neck_mlp_ratio": 1.0, "vocabulary": K,
        "align_weight": 2.0, "clip": 1.0,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05},
    }  # fmt: skip
    encoder = Encoder(layer_scale=0.1, beit_bias=True)
    regressor, decoder, head = Regressor(24, 2, 1.0), Blocks(24, 1, 1.0), nn.Linear(24, K)
    model = nn.ModuleDict({"encoder": encoder, "regressor": regressor, "decoder": decoder, "head": head})
    randomise(model)
    masked = random_ids(BATCH, 16, MASKED)
    hidden = torch.zeros(BATCH, 16).scatter(1, masked, 1.0)
    visible = hidden.argsort(dim=1, stable=True)[:, : 16 - MASKED]
    tokens = torch.randint(K, (BATCH, 16))
    inputs = {
        "view": images(BATCH, 16), "ids_visible": visible, "ids_masked": masked, "mask": hidden, "token_ids": tokens,
    }  # fmt: skip
    places = encoder.pos_embed[:, 1:].expand(BATCH, -1, -1)
    wanted = tokens.gather(1, masked)

    def forward(step: int) -> tuple[Terms, Terms]:
        z = encoder(inputs["view"], keep=visible).patches
        predicted = regressor(z, take(places, visible), take(places, masked))
        logits = head(decoder(predicted + take(places, masked)))
        with torch.no_grad():
            target = encoder(inputs["view"], keep=masked).patches
        mim = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        align = config["align_weight"] * (predicted - target).square().mean()
        peer_logits, peer_latent = make_peer(model)(z.detach(), take(places, masked), take(places, visible))
        agree("CAENeck logits", logits, peer_logits)
        agree("CAENeck latent", predicted, peer_latent)
        peer_mim, peer_align = CAELoss(2)(logits.flatten(0, 1), wanted.flatten(), predicted, target)
        agree("CAELoss", torch.stack([mim, align]), torch.stack([peer_mim, peer_align]))
        values = {"visible": z, "latent": predicted, "latent_target": target, "logits": logits}
        return {"mim": mim, "align": align}, values

    record(
        "cae",
        about="CAE: visible patches are encoded, a regressor guesses the masked ones' latents, a decoder their tokens.",
        source=f"{versions('mmpretrain', 'timm', 'torch')}: CAENeck, CAELoss; encoder of timm's beit.Attention",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector_or("cls_token")),
        clip=clip_all(config["clip"]),
        notes=[
            "encoder: class token, fixed sines y first, bias on queries and values, layer scale, final norm; no "
            "relative bias; its class token does not reach the regressor",
            "regressor block: x = q + gamma_1 CA(norm_q(q + pos), norm_k(kv + pos), norm_v(kv)), x = norm2(x), "
            "x = x + gamma_2 mlp(x); kv = visible latents, then the current masked ones; positions are the encoder's",
            "decoder: latent + positions of the masked patches, blocks as the encoder's, norm, head",
            "latent_target: the same encoder on the masked patches and the class token, final norm, class token "
            "dropped, no gradient (no EMA); in the second step with the weights of the second step",
            "logits [B, M, K] and latents are in the order of ids_masked; token_ids are for all patches; mim is the "
            "mean over all masked patches, align is 2 times the mean over masked patches and width",
            "clip: all gradients by their common norm, factor clip / (norm + 1e-6); decay exempts one-dimensional "
            "parameters and the class token, not the mask token",
        ],
    )


if __name__ == "__main__":
    make()
