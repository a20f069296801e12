"""Numbers of absurd size in strangers' configs, and tokenizers of other models: one line, at once."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from nexvar import NexVarError, models
from nexvar.weights import assemble
from nexvar.weights.load import load
from places import CHECKPOINTS


def read(folder):
    values = json.loads((folder / "config.json").read_text())
    return models.infer(values), values


def whole_numbers(value, path=()):
    """The path of every whole number in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from whole_numbers(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value[:3]):
            yield from whole_numbers(inner, (*path, i))
    elif type(value) is int:
        yield path


@pytest.mark.parametrize("number", [1 << 25, 1 << 45, 10**30, -(1 << 45)])
@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_any_number_of_a_config_may_be_absurd(folder, number):
    """Read: refused in a line before anything is made of it. Not read: it does not matter."""
    architecture, values = read(folder)
    if architecture is None:
        pytest.skip("one of ours")
    refused = 0
    for path in whole_numbers(values):
        changed = json.loads(json.dumps(values))
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = number
        try:
            assemble.official_config(architecture, changed, folder)
        except NexVarError as error:
            refused += 1
            assert len(str(error)) < 500
    assert refused


@pytest.mark.parametrize(
    ("golden_folder", "change", "said"),
    [
        ("caduceus_ps_tiny", {"pad_vocab_size_multiple": 8 << 20}, "pad_vocab_size_multiple is 8388608"),
        ("caduceus_ps_tiny", {"ssm_cfg": {"d_state": 1 << 60}}, "ssm_cfg: d_state"),
        ("hyenadna_tiny", {"vocab_size": 12 << 20}, "vocab_size"),
        ("sh2_a", {"num_layers": 10**9}, "num_layers is 1000000000"),
        ("nt_v2_tiny", {"num_hidden_layers": 10_001}, "at most 10000"),
    ],
)
def test_an_absurd_number_is_named(golden, golden_folder, change, said):
    architecture, values = read(golden / golden_folder)
    with pytest.raises(NexVarError, match=said):
        assemble.official_config(architecture, values | change, "config.json")


@pytest.mark.parametrize("base", [50_000_000, 10**11, 5e7, 1e11])
def test_rotary_bases_are_large_and_legal(golden, base):
    for folder, name in (("genos_tiny", "rope_theta"), ("sh2_a", "rotary_emb_base"), ("sh1_a", "rotary_emb_base")):
        architecture, values = read(golden / folder)
        config = assemble.official_config(architecture, values | {name: base}, "config.json")
        assert getattr(config, name) == base
        again = assemble.make_config(architecture, dataclasses.asdict(config), "config.json")
        assert getattr(again, name) == base


def test_what_nobody_reads_may_be_anything(golden):
    architecture, values = read(golden / "nt_v2_tiny")
    assemble.official_config(architecture, values | {"tokens_seen": 10**14}, "config.json")


def test_memory_that_does_not_suffice_is_the_configs_fault(golden, monkeypatch):
    architecture, values = read(golden / "nt_v2_tiny")

    def too_much(_):
        raise MemoryError

    real = models.get(architecture)
    monkeypatch.setattr(assemble.models, "get", lambda name: dataclasses.replace(real, from_official=too_much))
    with pytest.raises(NexVarError, match="config"):
        assemble.official_config(architecture, values, "config.json")


def test_a_tokenizer_of_another_model_is_refused_when_the_model_is_loaded(golden, tmp_path):
    folder = tmp_path / "genos"
    shutil.copytree(golden / "genos_tiny", folder)
    rows = load(folder, device="cpu").module.config.vocabulary
    for highest, fits in ((rows - 1, True), (rows, False)):
        vocabulary = {"A": 5, "C": 6, "G": 7, "T": highest, "N": 9}
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
        if fits:
            assert load(folder, device="cpu").tokenizer.vocab_size == rows
        else:
            with pytest.raises(NexVarError, match=f"ids up to {rows}, its model has {rows} tokens"):
                load(folder, device="cpu")


def test_a_longer_vocabulary_of_byte_pairs_is_refused(golden, tmp_path):
    folder = tmp_path / "dnabert2"
    shutil.copytree(golden / "dnabert2_tiny", folder)
    values = json.loads((folder / "tokenizer.json").read_text())
    values["added_tokens"].append({"id": len(values["model"]["vocab"]), "content": "[ONE_MORE]"})
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(NexVarError, match="ids up to 4,096, its model has 4,096 tokens"):
        load(folder, device="cpu")
