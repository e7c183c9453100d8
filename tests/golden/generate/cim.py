"""CIM, Corrupted Image Modeling (Fang et al. 2023, 2202.03382): ResPix and RevDet.

No peer is known; parts are timm's, the losses torch's. What the paper's window of 8 x 8 pixels is, is not certain: see
the notes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import Terms, adamw, agree, images, random_mask, randomise, record, single, start, vector_or, versions
from data2vec import BEIT, BEIT_NOTE
from tokenizer import CODE, K, MARGIN, decode, encode, make_tokenizer
from vit import Encoder, check_encoder, normalised, patchify, settings, unpatchify

BATCH = 4
WINDOW = 8


def window_target(view: Tensor) -> Tensor:
    """Pixels normalised in windows that do not overlap, all channels together; then per patch."""
    return patchify(unpatchify(normalised(patchify(view, WINDOW)), WINDOW), 4)


def make_one(name: str, seed: int) -> None:
    start(seed)
    check_encoder()
    detect = name == "cim_revdet"
    config = settings(BATCH) | {
        "generator_depth": 1, "generator_dim": 24, "generator_heads": 3, "generator_mlp_ratio": 2.0,
        "patches_masked": 9, "vocabulary": K, "code_dim": CODE, "generator_weight": 1.0, "enhancer_weight": 1.0,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": 0.05},
        "tokenizer": {"depth": 1, "decoder_depth": 1, "embed_dim": 24, "num_heads": 3, "mlp_ratio": 1.0},
    }  # fmt: skip
    if not detect:
        config["window"] = WINDOW
    model = nn.ModuleDict(
        {
            "generator": Encoder(**BEIT, depth=1),
            "gen_head": nn.Linear(24, K),
            "encoder": Encoder(),
            "head": nn.Linear(24, 1 if detect else 48),
        }
    )
    randomise(model)
    tokenizer = make_tokenizer(ratio=1.0).requires_grad_(False)
    model["tokenizer"] = tokenizer
    gumbel = single(-(-torch.rand(BATCH, 16, K).log()).log())
    mask = random_mask(BATCH, 16, config["patches_masked"])
    inputs = {"view": images(BATCH, 16), "mask": mask, "gumbel": gumbel}
    view, hidden = inputs["view"], mask.bool()

    def forward(step: int) -> tuple[Terms, Terms]:
        gold = encode(tokenizer, view)[1]
        logits = model["gen_head"](model["generator"](view, mask=mask).patches)
        best = (logits + gumbel).detach().topk(2, dim=2)
        assert (best.values[..., 0] - best.values[..., 1])[hidden].min() > MARGIN
        fake = torch.where(hidden, best.indices[..., 0], gold)
        corrupted = unpatchify(decode(tokenizer, tokenizer["codebook"].codes[fake]), 4)
        out = model["head"](model["encoder"](corrupted).patches)
        chosen = logits.log_softmax(dim=2).gather(2, gold[..., None])[..., 0]
        gen = -(chosen * mask).sum() / mask.sum()
        agree("cross_entropy", gen, F.cross_entropy(logits[hidden], gold[hidden]))
        values = {"gold_ids": gold, "fake_ids": fake, "logits": logits, "corrupted": corrupted, "enhanced": out}
        if detect:
            changed = (fake != gold).double()
            assert 0 < changed.sum() < mask.sum()
            loss = (F.softplus(out[..., 0]) - changed * out[..., 0]).mean()
            agree("bce", loss, F.binary_cross_entropy_with_logits(out[..., 0], changed))
            return {"gen": gen, "detect": loss}, values | {"changed": changed}
        target = window_target(view)
        return {"gen": gen, "respix": (out - target).square().mean()}, values | {"target": target}

    special = ["changed is 1 where the decoded id is not the gold one, masked or not; detect: binary cross entropy, "
               "mean over all patches; a sampled id may equal the gold one"] if detect else [
               "target: pixels of the clean view, normalised in windows of 8 x 8 pixels that do not overlap, all "
               "channels together: (x - mean) / sqrt(unbiased variance + 1e-6), then cut into patches (row, column, "
               "channel); "
               "respix: mean squared error over all patches and values. The paper calls the window a sliding one; "
               "without its code the stride is a guess"]  # fmt: skip
    record(
        name,
        about="CIM: a small BEiT samples tokens at masked places, a frozen tokenizer decodes them into a corrupted "
        "picture, an enhancer " + ("finds the changed patches." if detect else "restores the clean pixels."),
        source=f"{versions('timm', 'torch')}: beit.Attention, cross_entropy, binary_cross_entropy_with_logits",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector_or("cls_token")),
        notes=[
            "generator: " + BEIT_NOTE,
            *special,
            "encoder (the enhancer, which is kept): class token, fixed sines y first, final norm, then head on patches",
            "gold ids: the frozen tokenizer on the same view (see vq_tokenizer for its parts; to_pixels gives pixels "
            "as they are in the view); fake ids: argmax of logits + gumbel where mask is 1, else gold; corrupted: the "
            "codes of fake ids decoded, put back as a picture; no gradient from the enhancer to the generator",
            "gen: cross entropy to gold, mean over all masked patches of the batch",
            f"no choice of an id is closer than {MARGIN:g} in either step",
            "decay exempts one-dimensional parameters and class tokens; tokenizer.* is frozen",
        ],
    )


def make() -> None:
    make_one("cim_respix", 17)
    make_one("cim_revdet", 18)


if __name__ == "__main__":
    make()
