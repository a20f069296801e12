"""Helpers of the StripedHyena tests: load a golden folder, greedy tokens, caches cut at any place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nexvar.weights.load import load

LENGTHS = (1, 2, 5, 33, 130, 197)


def load_golden(folder: Path, dtype: str = "float32") -> tuple[nn.Module, dict[str, Tensor]]:
    return load(folder, device="cpu", dtype=dtype).module, load_file(folder / "io.safetensors")


def recorded_taps(io: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    """{official module name: its output} of one case."""
    taps = {}
    for key in io:
        if key.startswith(f"{case}.block_"):
            taps[f"blocks.{int(key[-2:])}"] = io[key]
        elif key.startswith(f"{case}.embed."):
            taps[key.removeprefix(f"{case}.embed.")] = io[key]
        elif key == f"{case}.norm":
            taps["norm"] = io[key]
    return taps


@torch.no_grad()
def greedy(model: nn.Module, ids_BL: Tensor, count: int, cuts: Sequence[int] | None = None) -> Tensor:
    """``count`` greedy tokens; uncached, or with a cache that takes the prompt in pieces that end at ``cuts``."""
    ids, cache, done = ids_BL, None, 0
    if cuts is not None:
        cache = model.new_cache(len(ids), ids.shape[1] + count)
        for cut in (c for c in cuts if 0 < c < ids.shape[1]):
            model(ids[:, done:cut], cache=cache, logits=False)
            done = cut
    for _ in range(count):
        logits = model(ids[:, done:], cache=cache, logits=slice(-1, None)).logits
        done = ids.shape[1] if cache is not None else 0
        ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[:, ids_BL.shape[1] :]


@torch.no_grad()
def in_pieces(model: nn.Module, ids_BL: Tensor, cuts: Sequence[int]) -> Tensor:
    """Logits of a cached forward that is cut at ``cuts``."""
    cache = model.new_cache(*ids_BL.shape)
    edges = sorted({0, *cuts, ids_BL.shape[1]})
    pieces = [model(ids_BL[:, a:b], cache=cache).logits for a, b in zip(edges, edges[1:], strict=False)]
    assert cache.length == ids_BL.shape[1]
    return torch.cat(pieces, dim=1)
