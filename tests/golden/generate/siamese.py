"""What the methods of two views and MLP heads share: views, head settings, a check of heads against lightly's."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from common import agree, another_view, images
from vit import Mlp

BATCH = 4
VIEWS_NOTE = (
    "each view passes alone, a before b, so every batch norm sees B rows a call and its running statistics move twice "
    "a step: biased variance in the forward pass, unbiased in running_var, momentum 0.1, eps 1e-5"
)


def two_views() -> dict[str, Tensor]:
    a = images(BATCH, 16)
    return {"view_a": a, "view_b": another_view(a)}


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def head_config(sizes: list[int], bias: list[bool], bn: list[bool], affine: bool = True) -> dict:
    return {"sizes": sizes, "bias": bias, "bn": bn, "last_bn_affine": affine}


def make_head(config: dict) -> Mlp:
    return Mlp(config["sizes"], config["bias"], config["bn"], config["last_bn_affine"])


@torch.no_grad()
def check_head(ours: Mlp, peer: nn.Module) -> None:
    """The same numbers as a head of lightly with the same weights."""
    ours = copy.deepcopy(ours).train()
    x = torch.randn(BATCH, ours.fc0.in_features)
    state = {f"{i}": v for i, v in enumerate(v for k, v in ours.state_dict().items())}
    peer = peer.double().train()
    wanted = peer.state_dict()
    assert len(state) == len(wanted), (list(ours.state_dict()), list(wanted))
    peer.load_state_dict(dict(zip(wanted, state.values(), strict=True)))
    agree(type(peer).__name__, ours(x), peer(x))
