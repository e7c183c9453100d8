"""I-JEPA (Assran et al. 2023, 2301.08243; facebookresearch/ijepa), predictor held against lightly's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM
from torch import Tensor, nn

from common import Terms, adamw, agree, follower, images, move, randomise, record, start, vector, versions
from vit import Encoder, make_blocks, norm, settings, sincos, take

BATCH = 4
GRID = 4
WIDTH = 12
BLOCKS = 4


class Predictor(nn.Module):
    """Context tokens and one mask token for each wanted place; gives the latter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(24, WIDTH)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(sincos(GRID, GRID, WIDTH, "x", prefix=0), requires_grad=False)
        self.blocks = make_blocks(WIDTH, 2, 3, 2.0)
        self.norm = norm(WIDTH)
        self.proj = nn.Linear(WIDTH, 24)

    def forward(self, z: Tensor, context: Tensor, wanted: Tensor) -> Tensor:
        places = self.pos_embed.expand(len(z), -1, -1)
        x = torch.cat([self.embed(z) + take(places, context), self.mask_token + take(places, wanted)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.proj(self.norm(x)[:, z.shape[1] :])


def block_ids(top: int, left: int, height: int, width: int) -> list[int]:
    return [(top + y) * GRID + left + x for y in range(height) for x in range(width)]


def masks() -> dict[str, Tensor]:
    """Four target blocks of 1 x 2 patches or 2 x 1, placed per image; the context is cut to the smallest count."""
    targets, context = torch.zeros(BLOCKS, BATCH, 2, dtype=torch.int64), []
    for image in range(BATCH):
        taken = set()
        for block in range(BLOCKS):
            height, width = (1, 2) if block % 2 else (2, 1)
            top, left = (torch.randint(GRID - side + 1, ()).item() for side in (height, width))
            ids = block_ids(top, left, height, width)
            targets[block, image] = torch.tensor(ids)
            taken |= set(ids)
        context.append([i for i in block_ids(0, 0, GRID, GRID) if i not in taken])
    count = min(len(ids) for ids in context)
    made = {f"target_ids_{block}": targets[block] for block in range(BLOCKS)}
    return made | {"context_ids": torch.tensor([ids[:count] for ids in context])}


@torch.no_grad()
def check_predictor(ours: Predictor, z: Tensor, context: Tensor, wanted: list[Tensor]) -> None:
    peer = IJEPAPredictorTIMM(GRID**2, 2, 24, WIDTH, 3, mlp_ratio=2.0)
    pairs = {"embed.": "predictor_embed.", "proj.": "predictor_proj."}
    state = {}
    for name, value in ours.state_dict().items():
        first = next((new for old, new in pairs.items() if name.startswith(old)), "decoder.")
        state[first + (name if first == "decoder." else name.split(".", 1)[1])] = value
    peer.load_state_dict(state)
    expected = peer(z, context, wanted)
    agree("IJEPAPredictorTIMM", torch.cat([ours(z, context, ids) for ids in wanted]), expected)


def make(seed: int = 11) -> None:
    start(seed)
    config = settings(BATCH, positions="x") | {
        "class_token": False, "predictor_dim": WIDTH, "predictor_depth": 2, "predictor_heads": 3,
        "predictor_mlp_ratio": 2.0, "target_blocks": BLOCKS, "target_norm_eps": 1e-5, "beta": 1.0, "momentum": 0.9,
        "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.04},
    }  # fmt: skip
    encoder = Encoder(positions="x", cls=False)
    predictor = Predictor()
    randomise(encoder)
    randomise(predictor)
    copies = nn.ModuleDict({"encoder": follower(encoder)})
    model = nn.ModuleDict({"encoder": encoder, "predictor": predictor, "momentum": copies})
    inputs = {"view": images(BATCH, 16)} | masks()
    wanted = [inputs[f"target_ids_{block}"] for block in range(BLOCKS)]

    def forward(step: int) -> tuple[Terms, Terms]:
        z = encoder(inputs["view"], keep=inputs["context_ids"]).tokens
        with torch.no_grad():
            whole = copies["encoder"](inputs["view"]).tokens
            whole = F.layer_norm(whole, (24,), eps=config["target_norm_eps"])
        check_predictor(predictor, z.detach(), inputs["context_ids"], wanted)
        predicted = [predictor(z, inputs["context_ids"], ids) for ids in wanted]
        targets = [take(whole, ids) for ids in wanted]
        loss = F.smooth_l1_loss(torch.cat(predicted), torch.cat(targets), beta=config["beta"])
        difference = (torch.stack(predicted) - torch.stack(targets)).abs()
        agree("smooth_l1", loss, torch.where(difference < 1, 0.5 * difference.square(), difference - 0.5).mean())
        values = {f"predicted_{b}": p for b, p in enumerate(predicted)}
        return {"predict": loss}, {"context": z, "target": whole} | values

    record(
        "ijepa",
        about="I-JEPA: four target blocks predicted from context tokens, one pass of the predictor for each block.",
        source=f"{versions('lightly', 'timm', 'torch')}: IJEPAPredictorTIMM, smooth_l1_loss",
        seed=seed,
        config=config,
        model=model,
        inputs=inputs,
        forward=forward,
        optimizer=adamw(model, config["adamw"], vector),
        update=lambda step: move(copies, model, config["momentum"]),
        notes=[
            "no class token; positions are fixed sines, x first, in the encoder (width 24) and the predictor (12)",
            "target [B, 16, 24]: all tokens of momentum.encoder after its final norm, normalised once more (no gain or "
            "bias, eps 1e-5), then gathered at target_ids_i; predicted_i is the predictor's output there",
            "loss: smooth L1, beta 1, mean over blocks, images, places and width",
            "decay exempts one-dimensional parameters, not the mask token; no clipping; EMA after the optimizer",
        ],
    )


if __name__ == "__main__":
    make()
