"""NexVar: every major genomic foundation model, natively, in plain PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexvar.errors import NexVarError
    from nexvar.nexvar import NexVar

__version__ = "0.1.0"
__all__ = ["NexVar", "NexVarError", "__version__"]

_HOMES = {"NexVar": "nexvar.nexvar", "NexVarError": "nexvar.errors"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nexvar' has no attribute {name!r}")
