"""How many tokens one forward reads: all of a sequence, or pieces of it with a cache.

A causal model reads what is longer than ``PIECE_TOKENS`` in pieces and carries its cache from one to the next, so that
memory does not grow with the length. A model whose ``bounded_forward`` is True walks pieces inside its forward
(HyenaDNA: a convolution in pieces costs more than a whole) and is given all at once.
"""

from __future__ import annotations

from typing import Any

PIECE_TOKENS = 16_384


def piece_tokens(module: Any, length: int) -> int:
    """Tokens in each forward of a causal model over a sequence of ``length``: ``length``, or ``PIECE_TOKENS``."""
    whole = length <= PIECE_TOKENS or module.bounded_forward
    return length if whole else PIECE_TOKENS


def cache_for_pieces(module: Any, batch: int, length: int) -> Any | None:
    """An empty cache for a batch that must be read in pieces; None where one forward reads it whole."""
    return module.new_cache(batch, length) if piece_tokens(module, length) < length else None
