"""Names of a checkpoint -> the official ones: whatever was wrapped around the model is taken off, by one rule for all.

    module.X  model.X  base_model.model.X  backbone.X   a wrapper's name before every tensor's: taken off
    encoder.layer.0… for esm.encoder.layer.0…           the inner model alone: the official beginning is put back
    X._orig_mod.Y                                       torch.compile: taken out wherever it stands

Of all beginnings, the one under which most of the trunk's official names are found is right; two that are equally good
are two models in one file, which is refused. Tensors of other people's heads are left out, and named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import Architecture

COMPILED = "_orig_mod."
# what others put on top of a trunk, by the parts of a tensor's name
FOREIGN = re.compile(
    r"(heads?|metrics?)([._]|$)|(^|[._])(classifiers?|classification|scores?|pooler|decoder|cls|regress\w*|qa_outputs|"
    r"out_proj|output_layer|predict\w*|loss\w*|criterion)([._]|$)"
)


def official_names(arch: Architecture, config: object, tensors: Mapping[str, Tensor]) -> set[str]:
    """What these tensors of the module are called in the original project's file; nothing is copied."""
    if arch.to_official is None:
        return set(tensors)
    rows = {n: torch.empty(t.shape[0], *(0,) * (t.ndim - 1), dtype=t.dtype) if t.ndim else torch.empty(())
            for n, t in tensors.items()}  # fmt: skip
    return set(arch.to_official(rows, config))


def unwrapped(
    state: dict[str, Tensor], arch: Architecture, module: nn.Module, config: object, where: object
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(tensors by their official names, those of heads that are no part of this model)."""
    own = module.state_dict()
    trunk = official_names(arch, config, {n: t for n, t in own.items() if not n.startswith(arch.HEADS or ("\0",))})
    official = trunk | official_names(arch, config, own)
    plain = _renamed({name: name.replace(COMPILED, "") for name in state}, state, where)
    result = _renamed(renaming(plain, trunk, where, official), plain, where)
    tops = {_top(name) for name in official} | {_top(head) for head in arch.HEADS}
    foreign = [name for name in result if _top(name) not in tops and FOREIGN.search(name)]
    return result, {name: result.pop(name) for name in foreign}


def renaming(
    names: Collection[str], trunk: Collection[str], where: object, official: Collection[str] = ()
) -> dict[str, str]:
    """Name -> official name, what is around the trunk's taken off or put back. official: names outside of the trunk."""
    before, missing = _wrapping(names, trunk, where)
    inside = {_top(name[len(missing) :]) for name in trunk} if missing else set()
    return {name: _official(name, before, missing, official or trunk, inside) for name in names}


def _renamed(names: Mapping[str, str], state: dict[str, Tensor], where: object) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for old, new in names.items():
        if new in result:
            raise NexVarError(f"{new} occurs twice, once as {old}", where=where, fix="keep one of the two models")
        result[new] = state[old]
    return result


def _wrapping(names: Iterable[str], trunk: Collection[str], where: object) -> tuple[str, str]:
    """(what stands before the official names, what of the official beginning is not there), by most names matched."""
    beginnings, depth = _beginnings(trunk), max((name.count(".") for name in trunk), default=0) + 1
    votes: Counter[tuple[str, str]] = Counter()
    for name in names:
        cuts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        for cut in cuts[-depth:]:  # no official name has more parts
            # X.esm. + Y for esm. + Y says the same as X. for nothing: counted once
            votes.update(
                (name[:cut], start) for start in beginnings
                if start + name[cut:] in trunk and _last(name[:cut]) != (_last(start) or "\0")
            )  # fmt: skip
    best = max(votes.values(), default=0)
    winners = [pair for pair, count in votes.items() if count == best]
    if len(winners) > 1:
        places = " and ".join(repr(before or "(no prefix)") for before, _ in winners[:3])
        raise NexVarError(
            f"its tensors fit the model under {len(winners)} beginnings: {places}",
            where=where,
            fix="keep the tensors of one of the models in the file",
        )
    return winners[0] if winners else ("", "")


def _beginnings(trunk: Collection[str]) -> list[str]:
    """ "", "esm." …: the dotted beginnings that all names of the trunk share."""
    shared: list[str] = []
    for parts in zip(*(name.split(".")[:-1] for name in trunk), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ["".join(f"{part}." for part in shared[:count]) for count in range(len(shared) + 1)]


def _official(name: str, before: str, missing: str, official: Collection[str], inside: Collection[str]) -> str:
    if not name.startswith(before):
        return name
    bare = name[len(before) :]
    inner = missing + bare
    return inner if inner in official or (bare not in official and _top(bare) in inside) else bare


def _top(name: str) -> str:
    return name.split(".", 1)[0]


def _last(beginning: str) -> str:
    return beginning[:-1].rpartition(".")[2]
