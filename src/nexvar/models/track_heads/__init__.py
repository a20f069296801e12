"""Heads that read tracks off a model's hidden states, and how their targets are scaled.

hidden (B, L, D), one state a base ── mean of each bin (B, N, D) ── head ── softplus x softplus(scale) ── (B, N, K)
"""

from nexvar.models.track_heads.heads import HEADS, TrackHead, make
from nexvar.models.track_heads.scaling import Scaling

__all__ = ["HEADS", "Scaling", "TrackHead", "make"]
