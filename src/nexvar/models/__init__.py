"""Architectures: one file each; the file name is the registry.

Every file here defines
  Config      frozen dataclass, with ``Config.from_official(dict)`` for the official config.json's keys
  Model       ``nn.Module`` that follows ``GenomicModel`` below
  matches     ``matches(official_config: dict) -> bool``: is this config.json of this architecture?
  convert     ``convert(state: dict[str, Tensor], config) -> dict[str, Tensor]``: official names and layouts ->
              this module's; the only place that knows foreign names (inner names stay the official ones)
  KEEP_FLOAT32  fnmatch patterns of parameters that stay float32 whatever the model's dtype
  QUANTIZED   fnmatch patterns of linear weights that ``quantize=`` stores in 8 or 4 bits; all others keep their dtype
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from nexvar.errors import NexVarError

ARCHITECTURES: tuple[str, ...] = tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))


class Output(NamedTuple):
    """What a forward returns. ``outputs[0]`` is the logits, as in the official packages.

    logits: (B, L, V), or None when the caller asked for taps only.
    taps: official module name -> its output, (B, L, D).
    extras: what one family has beside these (router logits, attention maps, tracks); usually empty.
    """

    logits: Tensor | None
    taps: dict[str, Tensor]
    extras: dict[str, Any]


class Cache(Protocol):
    """The state of a causal model after ``length`` tokens."""

    length: int

    def select(self, rows: Tensor) -> Cache:
        """A new cache whose batch rows are ``rows`` of this one (repeats allowed: branching)."""
        ...


class GenomicModel(Protocol):
    """What every ``models/<architecture>.py: Model`` does. B batch, L length, V vocabulary, D width."""

    config: Any
    last_hidden: str  # the tap that is the model's final hidden state
    tap_names: tuple[str, ...]
    pads_safely: bool  # right padding (with its mask, for masked models) changes no real token
    rc_equivariant: bool  # the other strand gives the reversed, complemented output: one strand is enough

    def __call__(
        self,
        ids_BL: Tensor,
        *,
        mask_BL: Tensor | None = None,  # True = real token; causal models with right padding need none
        taps: Sequence[str] = (),
        cache: Any | None = None,  # causal models: ids_BL continue the cached tokens; updated in place
        logits: bool | slice = True,  # False: taps only; a slice over L: logits of these positions alone
    ) -> Output: ...

    def new_cache(self, batch_size: int, max_length: int) -> Any:
        """An empty cache (causal models only)."""
        ...

    def reset_buffers(self) -> None:
        """Recompute every non-persistent buffer in float32, on the parameters' device."""
        ...


def get(architecture: str) -> Any:
    """The module ``models/<architecture>.py``; raises NexVarError for an unknown name."""
    if architecture not in ARCHITECTURES:
        raise NexVarError(
            f"no architecture {architecture!r}", where="architecture", fix=f"one of {', '.join(ARCHITECTURES)}"
        )
    return importlib.import_module(f"nexvar.models.{architecture}")


def infer(official_config: dict[str, Any]) -> str | None:
    """The architecture whose ``matches`` accepts this official config.json, or None."""
    return next((name for name in ARCHITECTURES if get(name).matches(official_config)), None)


def check_taps(requested: Sequence[str], known: Sequence[str]) -> None:
    """Raise a NexVarError that names the nearest layers if a requested tap does not exist."""
    import difflib

    for name in requested:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.3)) or ", ".join(known[:3])
            raise NexVarError(f"no layer {name!r}", where="layer_names", fix=f"did you mean {near}?")


def block_taps(tap_names: Sequence[str]) -> list[str]:
    """The taps that are whole blocks, in order: the most numerous ``<stem>.0, <stem>.1, …``."""
    stems: dict[str, list[str]] = {}
    for name in tap_names:
        if match := re.fullmatch(r"(.+)\.(\d+)", name):
            stems.setdefault(match[1], []).append(name)
    return max(stems.values(), key=len, default=[])


def check_attentions(layers: Sequence[int], count: int) -> None:
    """Raise a NexVarError for a layer whose attention maps cannot be had: it is not one of ``count``."""
    for layer in layers:
        if not 0 <= layer < count:
            raise NexVarError(f"no layer {layer}", where="attentions", fix=f"layers count from 0 to {count - 1}")
