"""Memory from the card alone: exact for weights and caches, near for activations; what fits and how."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nexvar import cards, models
from nexvar.weights import footprint, machine
from nexvar.weights.assemble import build
from nexvar.weights.load import load
from places import GOLDEN

FOLDERS = sorted(p.parent.name for p in GOLDEN.glob("*/config.json") if (p.parent / "weights.safetensors").exists())
CAUSAL = [name for name in FOLDERS if name.startswith(("sh", "genos", "hyenadna"))]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FOLDERS)
def test_weights_are_exact(name, dtype):
    loaded = load(GOLDEN / name, device="cpu", dtype=dtype)
    module = build(loaded.card.architecture, loaded.module.config)
    promised = footprint.parameter_bytes(loaded.card.architecture, module, loaded.dtype.itemsize, None)
    real = {k: t.numel() * t.element_size() for k, t in loaded.module.state_dict().items()}
    tied = {k for k in real if k not in promised}  # a second name of the same tensor
    assert {k: v for k, v in real.items() if k not in tied} == promised


@pytest.mark.parametrize(("length", "batch", "dtype"), [(40, 1, "float32"), (300, 2, "float32"), (150, 1, "bfloat16")])
@pytest.mark.parametrize("name", CAUSAL)
def test_cache_bytes_are_exact(name, length, batch, dtype):
    """As a real cache holds them after a real forward that filled it."""
    loaded = load(GOLDEN / name, device="cpu", dtype=dtype)
    if length > loaded.card.context:
        pytest.skip("longer than its context")
    states = loaded.module.new_cache(batch, length)
    ids = torch.tensor([loaded.tokenizer.encode(("ACGT" * 80)[:length], special=False).ids] * batch)
    with torch.no_grad():
        loaded.module(ids, cache=states)
    parameters = {p.untyped_storage()._cdata for p in loaded.module.parameters()}
    real = footprint.held_bytes(states, parameters)
    config = loaded.module.config
    assert footprint.cache_bytes(loaded.card.architecture, config, length, loaded.dtype, batch) == real


def test_every_card_has_a_footprint_that_grows_with_the_length():
    assert all(models.Memory() != models.get(name).MEMORY for name in models.ARCHITECTURES)
    small = [c for c in cards.all_cards().values() if c.parameters < 4e8]
    assert len({c.architecture for c in small}) >= 5
    for card in small[::4]:
        short, long = (footprint.footprint(card, n) for n in (256, 512))
        assert short.weights == long.weights >= card.parameters * machine.BYTES[card.dtype] * 0.99
        assert short.activations < long.activations
        assert (card.objective == "causal") == (long.cache > 0)


def test_quantised_weights_of_a_real_card():
    """7B: 13 GB in bfloat16, about half in int8, about 30 % in int4; the largest layer is a thirtieth."""
    card = cards.get("nexvar_7b")
    plain, int8, int4 = (footprint.footprint(card, 64, quantize=q) for q in (None, "int8", "int4"))
    assert plain.weights == pytest.approx(13.17e9, rel=0.01)
    assert int8.weights / plain.weights == pytest.approx(0.5, abs=0.01)
    assert int4.weights / plain.weights == pytest.approx(0.27, abs=0.02)
    assert 1 / 35 < plain.layer / plain.weights < 1 / 28
    assert plain.offloaded < 0.25 * plain.total


def test_fp8_codes_count(monkeypatch):
    """Evo 2 1B on a CPU: 0.93 GB of codes beside 2.2 GB of weights, as docs/checkpoints.md says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert footprint.footprint(cards.get("nexvar_1b_base"), 64).weights == pytest.approx(2.22e9 + 0.93e9, rel=0.01)


def test_the_best_setting_is_the_first_that_fits(monkeypatch):
    card = dataclasses.replace(cards.get("nexvar_7b"), window=64)
    ways = list(footprint.settings(card))
    assert [str(way) for way in ways] == ["as it is", "quantize=int8", "quantize=int4", "device_map=auto"]
    assert sorted((way.bytes for way in ways), reverse=True) == [way.bytes for way in ways]
    for i, way in enumerate(ways):
        monkeypatch.setattr(machine, "free_memory", lambda way=way: way.bytes / footprint.SHARE * 1.001)
        assert footprint.best(card) == ways[i]
    monkeypatch.setattr(machine, "free_memory", lambda: 1e6)
    assert footprint.best(card) is None
    float32 = list(footprint.settings(cards.get("hyenadna_tiny_1k")))
    assert str(float32[1]) == "dtype=bfloat16" and str(float32[2]) == "dtype=bfloat16, quantize=int8"


def test_fp8_models_say_what_they_need(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "Hopper" in str(footprint.hindrance(cards.get("nexvar_40b")))
    assert footprint.hindrance(cards.get("nexvar_7b")) is None


def test_the_command(monkeypatch, capsys):
    """`nexvar models --fits`, for three cards."""
    from nexvar.cli.checkpoints import models as command

    few = {name: cards.get(name) for name in ("nexvar_mito", "hyenadna_tiny_1k", "nexvar_40b")}
    monkeypatch.setattr(cards, "all_cards", lambda: few)
    monkeypatch.setattr(machine, "free_memory", lambda: 50e6)
    command(fits=True, length=128)
    out, err = capsys.readouterr()
    assert "free memory: 50 MB" in err
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "as it is" in lines["nexvar_mito"] and "MB" in lines["nexvar_mito"]
    assert "no" in lines["nexvar_40b"]
    command(fits=False, length=None)
    assert "context" in capsys.readouterr().out.splitlines()[0]
