"""Foreign layouts: one file for each architecture says how others write it down.

Every file here defines
  matches         ``matches(official: dict) -> bool``: is this config.json of this architecture?
  from_official   ``from_official(official: dict) -> Config``: from the official config.json's keys
  convert         ``convert(state: dict[str, Tensor], config) -> dict[str, Tensor]``: official names and layouts ->
                  the module's; the only place that knows foreign names (inner names stay the official ones)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def same_names(official: Mapping[str, Any], needed: Iterable[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Values that both sides call alike: ``needed`` ones (KeyError), then those with the original code's defaults."""
    return {name: official[name] for name in needed} | {k: official.get(k, d) for k, d in defaults.items()}
