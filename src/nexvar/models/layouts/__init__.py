"""Foreign layouts: one file for each architecture says how others write it down.

Every file here defines
  matches         ``matches(official: dict) -> bool``: is this config.json of this architecture?
  from_official   ``from_official(official: dict) -> Config``: from the official config.json's keys
  convert         ``convert(state: dict[str, Tensor], config) -> dict[str, Tensor]``: official names and layouts ->
                  the module's; the only place that knows foreign names (inner names stay the official ones)
and the way back, for ``nexvar export`` and adapters:
  official_values ``official_values(config) -> dict``: what ``from_official`` reads, and what the original code needs
  to_official     ``to_official(state, config) -> dict[str, Tensor]``: the inverse of ``convert``; of some tensors it
                  gives what these become, and it only moves rows: nothing is computed from values but copies
  tied_layers     where two layers of the original are one of ours: {the other one, as we would call it: ours}
  UNREAD          patterns of tensors of the original that no forward reads: they are not kept
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def same_names(official: Mapping[str, Any], needed: Iterable[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Values that both sides call alike: ``needed`` ones (KeyError), then those with the original code's defaults."""
    return {name: official[name] for name in needed} | {k: official.get(k, d) for k, d in defaults.items()}
