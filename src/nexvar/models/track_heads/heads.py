"""Hidden states at base resolution -> tracks that are never negative: three kinds of head.

    genos    conv 3, D -> D/4; conv 3 with dilation 2, D/4 -> D/16; conv 1, D/16 -> K; BatchNorm, GELU and Dropout 0.1
             after the first two (Genos' RNA-seq head: github.com/BGI-HangzhouAI/Genos, Documents/README.md)
    linear   layer norm, linear
    unet     layer norm, linear to a multiple of 32; three levels of NTv3's U-Net (ops/unet.py); linear

All end in softplus(x) x softplus(scale), one learned scale a track (Genos; AlphaGenome's heads).
B batch, L bases, D width, N bins, K tracks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.ops.unet import TowerBlock, gelu

DROPOUT = 0.1
UNET_LEVELS = 3


class TrackHead(nn.Module):
    """body: (B, N, D) -> (B, N, K). resolution: bases of a bin, whose states are averaged first."""

    def __init__(self, body: nn.Module, tracks: int, resolution: int) -> None:
        super().__init__()
        self.body, self.resolution = body, resolution
        self.scale = nn.Parameter(torch.zeros(tracks))

    @property
    def averages(self) -> bool:
        """Whether it learns running averages over batches."""
        return any(True for _ in self.buffers())

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, L / resolution, K) float32, at least 0: scaled values. L is a multiple of the resolution."""
        with torch.autocast(hidden_BLD.device.type, enabled=False):
            states_BND = hidden_BLD.float().unflatten(1, (-1, self.resolution)).mean(2)
            return F.softplus(self.body(states_BND)) * F.softplus(self.scale)


class BatchNorm(nn.Module):
    """As nn.BatchNorm1d, without its counter of batches, which is no weight."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x_BDN: Tensor) -> Tensor:
        return F.batch_norm(x_BDN, self.running_mean, self.running_var, self.weight, self.bias, self.training)


class Genos(nn.Module):
    """Kernels, dilation and widths as published; ``tracks`` outputs where Genos has one model a track."""

    def __init__(self, width: int, tracks: int) -> None:
        super().__init__()
        first, second = max(width // 4, 1), max(width // 16, 1)
        self.layers = nn.Sequential(
            nn.Conv1d(width, first, 3, padding=1), BatchNorm(first), nn.GELU(), nn.Dropout(DROPOUT),
            nn.Conv1d(first, second, 3, padding=2, dilation=2), BatchNorm(second), nn.GELU(), nn.Dropout(DROPOUT),
            nn.Conv1d(second, tracks, 1),
        )  # fmt: skip

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.layers(x_BND.transpose(1, 2)).transpose(1, 2)


class UNet(nn.Module):
    """Every level halves the bins; bins are filled up with zeros at the end and cut back."""

    def __init__(self, width: int, tracks: int) -> None:
        super().__init__()
        inner = max(32, width // 32 * 32)
        self.norm, self.enter = nn.LayerNorm(width), nn.Linear(width, inner)
        self.down = nn.ModuleList(TowerBlock(inner, inner) for _ in range(UNET_LEVELS))
        self.up = nn.ModuleList(TowerBlock(inner, inner, up="repeat") for _ in range(UNET_LEVELS))
        self.leave = nn.Linear(inner, tracks)

    def forward(self, x_BND: Tensor) -> Tensor:
        bins = x_BND.shape[1]
        x = F.pad(self.enter(self.norm(x_BND)), (0, 0, 0, -bins % (1 << UNET_LEVELS)))
        skips = []
        for block in self.down:
            skips.append(x)
            x, _ = block(x)
        for block in self.up:
            x, _ = block(x, skip_BLC=skips.pop())
        return self.leave(gelu(x[:, :bins]))


def _linear(width: int, tracks: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, tracks))


HEADS = {"genos": Genos, "linear": _linear, "unet": UNet}


def make(name: str, width: int, tracks: int, resolution: int) -> TrackHead:
    """A fresh head; NexVarError for an unknown name."""
    if name not in HEADS:
        raise NexVarError(f"no head {name[:40]!r}", where="head", fix=f"one of {', '.join(HEADS)}")
    return TrackHead(HEADS[name](width, tracks), tracks, resolution)
