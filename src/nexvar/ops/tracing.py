"""What an exported graph (torch.export) must hold for whatever values its inputs will have."""

from __future__ import annotations

import torch
from torch import Tensor

# torch 2.6 has no is_exporting. torch.compile may leave its graph where values decide, and keeps the faster code.
_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def tracing() -> bool:
    """Whether a graph is being made that no branch on a tensor's values may leave."""
    return bool(_exporting())


def surely_all(mask: Tensor) -> bool:
    """Whether no value is False; an exported graph, which cannot know, is not sure."""
    return not tracing() and bool(mask.all())
