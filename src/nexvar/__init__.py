"""NexVar: every major genomic foundation model, natively, in plain PyTorch."""

from __future__ import annotations

TYPE_CHECKING = False  # NOTE no import here: a Ctrl-C must meet the handler of doors.py as early as can be
if TYPE_CHECKING:
    from typing import Any

    from nexvar.errors import NexVarError
    from nexvar.nexvar import NexVar

__version__ = "0.2.0"
__all__ = ["NexVar", "NexVarError", "__version__"]

_HOMES = {"NexVar": "nexvar.nexvar", "NexVarError": "nexvar.errors"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nexvar' has no attribute {name!r}")
