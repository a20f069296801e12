"""Models by name: who answers, who is not loaded, who is loaded on demand, and who does not fit."""

from __future__ import annotations

import gc
import weakref

import pytest

from nexvar.errors import NexVarError
from nexvar.serve import models as module
from nexvar.serve.errors import Cancelled, Conflict, NotFound
from nexvar.serve.models import Models
from nexvar.serve.worker import Ticket
from nexvar.weights.choice import ModelChoice
from tiny import tiny_loaded
from tiny_masked import tiny_masked


def test_the_first_is_the_default_and_the_first_that_can_answers():
    models = Models([tiny_loaded(), tiny_masked()])
    assert models.default == models.find(None) == models.find(None, "causal") == "tiny"
    assert models.find(None, "masked") == models.find("tiny_masked") == "tiny_masked"
    assert Models([tiny_loaded()]).find(None, "masked") == "tiny"  # whose own words say what is wrong


def test_aliases_find_a_loaded_card():
    models = Models([tiny_loaded(name="nexvar_7b")])
    assert models.find("evo2_7b") == models.find("EVO2_7B") == "nexvar_7b"


def test_what_is_not_loaded_or_not_known_says_what_is():
    models = Models([tiny_loaded()])
    with pytest.raises(Conflict, match="loaded: tiny; or start the server with --model nexvar_mito"):
        models.find("nexvar_mito")
    with pytest.raises(NotFound, match="no model 'evo9'"):
        models.find("evo9")


def test_on_demand_one_guest_at_a_time():
    made = []

    def load(name):
        made.append(name)
        return tiny_loaded(name=name)

    models = Models([tiny_loaded()], allow_load=True, load=load)
    first = weakref.ref(models.get("nexvar_mito").module)
    assert models.get("nexvar_mito").module is first() and made == ["nexvar_mito"]
    models.get("hyenadna_tiny_1k")
    gc.collect()
    assert list(models.loaded) == ["tiny", "hyenadna_tiny_1k"] and first() is None
    assert models.get(None).card.name == "tiny" and models.default == "tiny"


def test_a_guest_that_cannot_be_loaded_leaves_the_others():
    def load(name):
        raise NexVarError("no network", where="model")

    models = Models([tiny_loaded()], allow_load=True, load=load)
    with pytest.raises(NexVarError, match="no network"):
        models.get("nexvar_mito")
    assert list(models.loaded) == ["tiny"]


def test_several_models_must_fit_together(monkeypatch):
    monkeypatch.setattr(module.machine, "free_memory", lambda: 10_000_000)
    with pytest.raises(NexVarError, match="10 MB are free"):
        Models.open([ModelChoice("nexvar_mito"), ModelChoice("nexvar_7b")])
    with pytest.raises(NexVarError, match="are free"):  # so must a guest
        Models.open([ModelChoice()], allow_load=True).get("nexvar_7b")


def test_every_forward_asks_the_ticket_while_it_is_used_and_no_longer():
    models, ticket = Models([tiny_loaded()]), Ticket(None)
    with models.using("tiny", ticket) as loaded:
        ids = loaded.module.embed.weight.new_zeros((1, 4)).long()
        loaded.module(ids)
        ticket.cancelled.set()
        with pytest.raises(Cancelled):
            loaded.module(ids)
    loaded.module(ids)
