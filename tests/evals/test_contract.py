"""``nexvar.evals.contract``: each of its checks can fail, and fails for the promise that is broken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from nexvar.errors import NexVarError
from nexvar.evals import contract, promises
from nexvar.weights.load import Loaded
from tiny import TinyCache, TinyCausal, tiny_loaded


@dataclasses.dataclass(frozen=True)
class TinyConfig:
    width: int = 16
    vocabulary: int = 512


class Good(TinyCausal):
    """A GRU that keeps the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.config: Any = TinyConfig()
        self.register_buffer("one", torch.ones(1), persistent=False)

    def reset_buffers(self) -> None:
        self.one = torch.ones(1)

    def forward(self, ids_BL, *, mask_BL=None, taps=(), cache=None, logits=True):
        contract.models.check_taps(taps, self.tap_names)
        out = super().forward(ids_BL, mask_BL=mask_BL, taps=taps, cache=cache, logits=logits)
        return out._replace(logits=None if logits is False else out.logits * self.one)


def broken(**changes: Callable[..., Any]) -> Loaded:
    return dataclasses.replace(tiny_loaded(), module=type("Broken", (Good,), changes)().eval())


def changing_logits(change: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self, ids_BL, **options):
        out = Good.forward(self, ids_BL, **options)
        return out if out.logits is None else out._replace(logits=change(out.logits, ids_BL, options))

    return forward


FUTURE = changing_logits(lambda x, ids, o: x + ids.float().mean(1)[:, None, None] * (o.get("cache") is None))
BROKEN: dict[str, dict[str, Any]] = {
    "taps": {"tap_names": ("gru", "absent")},
    "logits": {"forward": changing_logits(lambda x, ids, o: x[..., :-1])},
    "batches": {"forward": changing_logits(lambda x, ids, o: x + x.mean(0, keepdim=True))},
    "padding": {"forward": changing_logits(lambda x, ids, o: x + ids.shape[1])},
    "masks": {"forward": changing_logits(lambda x, ids, o: x + (o.get("mask_BL") is None))},
    "gradients": {"forward": changing_logits(lambda x, ids, o: x.detach() + 0 * x)},
    "future": {"forward": FUTURE},
    "caches": {"forward": changing_logits(lambda x, ids, o: x + (o.get("cache") is not None))},
    "branches": {"new_cache": lambda self, batch, length: Shared(0, torch.zeros(1, batch, 16))},
    "buffers": {"reset_buffers": lambda self: None},
}


class Shared(TinyCache):
    def select(self, rows: torch.Tensor) -> TinyCache:
        self.hidden = self.hidden[:, rows]
        return self


@pytest.mark.parametrize("one", [c for c in contract.MODEL_CHECKS if c.__name__ not in ("patterns", "foreign")])
def test_a_model_that_keeps_the_contract_passes(one):
    assert contract.check(broken(), one, "tiny").outcome in ("ok", "skipped")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_seen(name):
    result = contract.check(broken(**BROKEN[name]), getattr(promises, name), "tiny")
    assert result.outcome == "FAIL" and result.detail and "\n" not in str(result)


def test_strands_that_disagree_are_seen():
    assert contract.check(broken(rc_equivariant=True), promises.strands, "tiny").outcome == "FAIL"


def test_a_model_that_raises_fails_in_one_line():
    def forward(self: nn.Module, *_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    assert str(contract.check(broken(forward=forward), promises.logits, "m")).endswith("ZeroDivisionError: two lines")


@pytest.mark.parametrize("package", ["no-such-package", "torch", ""])
def test_a_package_that_offers_nothing_is_an_error(package, capsys):
    with pytest.raises(SystemExit) as stop:
        contract.main([package])
    assert stop.value.code == 2 and "nexvar.models" in capsys.readouterr().err


def test_own_cards_are_right_about_themselves():
    card = contract.cards.get("nexvar_mito")
    assert {result.outcome for result in contract.of_card(card)} == {"ok"}
    wrong = dataclasses.replace(card, parameters=7, objective="masked", readout="pll", window=10**6)
    failed = [result.name for result in contract.of_card(wrong) if result.outcome == "FAIL"]
    assert failed == ["parameters", "window", "objective", "readout"]
    assert [str(r.outcome) for r in contract.of_card(dataclasses.replace(card, config={"x": 1}))] == ["FAIL"]
    with pytest.raises(NexVarError, match="offers neither"):
        list(contract.of_package("nothing"))
