"""From a bin's sum to what a head learns, and back: AlphaGenome's scaling, which Genos took over.

    y / (mean x resolution)      1 where the track is as high as it is where there is any of it
    ^ power                      0.75 of RNA-seq, whose highest bins dwarf the others; else 1
    above c = 10: 2 sqrt(t c) - c, so that a peak cannot rule the loss

github.com/google-deepmind/alphagenome_research, src/alphagenome_research/model/heads.py. K tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CLIP = 10.0


@dataclass(frozen=True)
class Scaling:
    """means: of each track, a base, over bins that are not 0 (1: left as it is). powers: of each track.

    resolution: bases of a bin. clip: above it, what is scaled is a root; 0: nowhere.
    """

    means: Sequence[float]
    powers: Sequence[float]
    resolution: int
    clip: float = CLIP

    def scaled(self, sums_NK: Tensor) -> Tensor:
        """Sums of bins (…, K) -> targets."""
        means_K, powers_K = self._of(sums_NK)
        t = (sums_NK / (means_K * self.resolution)).pow(powers_K)
        return torch.where(t > self.clip, 2 * (t * self.clip).sqrt() - self.clip, t) if self.clip else t

    def sums(self, scaled_NK: Tensor) -> Tensor:
        """What a head says (…, K), at least 0 -> sums of bins; the exact inverse."""
        means_K, powers_K = self._of(scaled_NK)
        x = scaled_NK
        if self.clip:
            x = torch.where(x > self.clip, (x + self.clip).square() / (4 * self.clip), x)
        return x.pow(1 / powers_K) * (means_K * self.resolution)

    def _of(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return like.new_tensor(self.means), like.new_tensor(self.powers)
