"""Between a backbone's feature map [B, D, H, W] and the embedding: pooling and bottleneck, as fast-reid has them.

Plain torch modules with the names of parameters that fast-reid's have, so that a state_dict fits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS = {"BN": nn.BatchNorm2d, "syncBN": nn.SyncBatchNorm}


class GeneralizedMean(nn.Module):
    """mean(x^p)^(1/p) over H and W (Radenović et al. 2018); p fixed, or a parameter [1] named `p`."""

    def __init__(self, norm: float = 3.0, learnable: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(norm))) if learnable else float(norm)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, 1, 1] of a map [B, D, H, W]."""
        return F.adaptive_avg_pool2d(x.clamp(min=self.eps).pow(self.p), 1).pow(1.0 / self.p)


POOLS: dict[str, Callable[[], nn.Module]] = {
    "Identity": nn.Identity,
    "GlobalAvgPool": lambda: nn.AdaptiveAvgPool2d(1),
    "FastGlobalAvgPool": lambda: nn.AdaptiveAvgPool2d(1),
    "GlobalMaxPool": lambda: nn.AdaptiveMaxPool2d(1),
    "GeneralizedMeanPooling": GeneralizedMean,
    "GeneralizedMeanPoolingP": lambda: GeneralizedMean(learnable=True),
}


def pool_layer(pool_type: str | nn.Module) -> nn.Module:
    """The pooling of that name, or the module itself; ValueError for another name."""
    if isinstance(pool_type, nn.Module):
        return pool_type
    if pool_type not in POOLS:
        raise ValueError(
            f"pool_type: expected {', '.join(map(repr, POOLS))} or a module of your own, got {pool_type!r}"
        )
    return POOLS[pool_type]()


def bottleneck(feat_dim: int, embedding_dim: int, with_bnneck: bool, norm_type: str) -> nn.Sequential:
    """An optional 1x1 convolution to `embedding_dim`, then an optional batch norm whose bias is not trained."""
    layers: list[nn.Module] = []
    if embedding_dim > 0:
        convolution = nn.Conv2d(feat_dim, embedding_dim, 1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
        layers.append(convolution)
        feat_dim = embedding_dim
    if with_bnneck:
        if norm_type not in NORMS:
            raise ValueError(f"norm_type: expected one of {', '.join(map(repr, NORMS))}, got {norm_type!r}")
        norm = NORMS[norm_type](feat_dim)
        norm.bias.requires_grad_(False)
        layers.append(norm)
    return nn.Sequential(*layers)
