"""Recorded values: every kind is compared on every family it is meant for, and one wrong value of it fails."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
import torch

from nexvar import cards, oracles
from nexvar.models import striped_hyena2
from nexvar.oracles import COMPARED, case_checks
from nexvar.tokenizers import make
from nexvar.weights.load import Loaded, load
from places import GOLDEN
from tiny import tiny_card, tiny_loaded

TEXT = "ACGTTGCAACGGATCTTGACACGTTGCAAGCTCTAGGACTTACGGATCCATGAACGTCCATTTG" * 2  # 128 bases, which NTv3 needs


def opened(name: str) -> Loaded:
    return load(GOLDEN / name, device="cpu", dtype="float32")


def logits_of(loaded: Loaded, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return loaded.module(torch.tensor([ids])).logits[0].double()


def right_values(loaded: Loaded, kind: str) -> dict[str, Any]:
    """A case with the value of one kind, from the model's logits and taps by plain loops."""
    special = loaded.card.special_tokens
    ids = loaded.tokenizer.encode(TEXT, special=special).ids
    plain = loaded.tokenizer.encode(TEXT, special=False).ids
    case: dict[str, Any] = {"text": TEXT, "absolute": 1e-4}
    if kind == "mean":
        with torch.no_grad():
            tap = loaded.module(torch.tensor([ids]), taps=(loaded.module.last_hidden,)).taps[loaded.module.last_hidden]
        return {**case, "input_ids": ids, "mean": [sum(row) / len(row) for row in zip(*tap[0].tolist(), strict=True)]}
    if kind == "logits":
        return {**case, "logits": logits_of(loaded, ids)[:2].tolist()}
    if kind == "probabilities":
        base, masked = loaded.tokenizer.base_ids(), [*ids]
        masked[70] = loaded.tokenizer.mask_id
        scores = [math.exp(float(logits_of(loaded, masked)[70, base[b]])) for b in "ACGT"]
        return {**case, "masked": 70, kind: {b: s / sum(scores) for b, s in zip("ACGT", scores, strict=True)}}
    if kind == "token_probabilities":
        front = len(ids) - len(plain) if ids[0] != plain[0] else 0  # <cls>
        p = logits_of(loaded, ids).softmax(-1)
        texts = {place: [loaded.tokenizer.detokenize([plain[place]]), "ACGACG"] for place in (0, 3)}
        found = {
            str(place): {t: float(p[front + place, loaded.tokenizer.encode(t, special=False).ids[0]]) for t in each}
            for place, each in texts.items()
        }
        return {**case, kind: found}
    log_probs = logits_of(loaded, plain).log_softmax(-1)
    each = [float(log_probs[i, plain[i + 1]]) for i in range(len(plain) - 1)]
    if kind == "mean_log_prob" and loaded.card.bos_id is not None:
        plain = [loaded.card.bos_id, *plain]
        log_probs = logits_of(loaded, plain).log_softmax(-1)
        each = [float(log_probs[i, plain[i + 1]]) for i in range(len(plain) - 1)]
    return {**case, kind: each if kind == "log_probs" else sum(each) / len(each)}


def made_wrong(value: Any) -> Any:
    """The same with one number 0.05 off."""
    if isinstance(value, dict):
        first = next(iter(value))
        return {**value, first: made_wrong(value[first])}
    return [made_wrong(value[0]), *value[1:]] if isinstance(value, list) else value + 0.05


ON = [
    *(("mean", name) for name in ("nt_v2_tiny", "genos_tiny", "dnabert2_tiny", "hyenadna_tiny", "caduceus_ph_tiny")),
    *(("logits", name) for name in ("hyenadna_tiny", "sh2_a", "nt_v1_tiny")),
    *(("probabilities", name) for name in ("ntv3_pre_tiny", "caduceus_ps_tiny")),
    *(("token_probabilities", name) for name in ("nt_v2_tiny", "nt_v1_tiny")),
    *(("log_probs", name) for name in ("hyenadna_tiny", "sh1_a", "sh2_a", "genos_tiny")),
    *(("mean_log_prob", name) for name in ("hyenadna_tiny", "sh1_a", "sh2_a", "genos_tiny")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), ON, ids=str)
def test_a_right_value_passes_and_one_wrong_number_fails(kind, name):
    loaded = opened(name)
    case = right_values(loaded, kind)
    checks = list(case_checks(loaded, case, "x"))
    assert [check.outcome for check in checks] == ["ok"] * len(checks) and checks, checks
    wrong = list(case_checks(loaded, {**case, kind: made_wrong(case[kind])}, "x"))
    assert [check.outcome for check in wrong] == [*["ok"] * (len(checks) - 1), "FAIL"], wrong
    short = case[kind][:-1] if isinstance(case[kind], list) and kind != "logits" else None
    if short:
        assert "FAIL" in [check.outcome for check in case_checks(loaded, {**case, kind: short}, "x")]


def test_every_kind_is_tried_above_or_below():
    assert {kind for kind, _ in ON} | {"hidden_states"} == set(COMPARED)


def test_hidden_states_of_genos_are_taken_where_the_notebook_prints_them():
    """13 states: the embedding, the outputs of the first 11 layers, and the final norm's."""
    recorded = oracles.recorded(cards.get("genos_1.2b"))
    assert len(recorded["cases"][0]["hidden_states"]) == cards.get("genos_1.2b").config["num_hidden_layers"] + 1
    loaded = opened("genos_tiny")
    layers = loaded.module.config.num_hidden_layers
    names = ["model.embed_tokens", *(f"model.layers.{i}" for i in range(layers - 1)), "model.norm"]
    with torch.no_grad():
        taps = loaded.module(torch.tensor([loaded.tokenizer.tokenize("G")]), taps=names).taps
    case = {"text": "G", "hidden_states": [taps[n][0, 0, :10].tolist() for n in names], "absolute": 1e-6}
    (check,) = case_checks(loaded, case, "x")
    assert check.outcome == "ok", check
    (check,) = case_checks(loaded, {**case, "hidden_states": made_wrong(case["hidden_states"])}, "x")
    assert check.outcome == "FAIL"


def test_a_model_that_gives_no_number_fails():
    loaded = tiny_loaded()
    torch.nn.init.constant_(loaded.module.head.bias, float("nan"))
    (check,) = case_checks(loaded, {"text": "ACGT", "log_probs": [-1.0, -1.0, -1.0], "absolute": 10.0}, "x")
    assert check.outcome == "FAIL"


# -- what a value is of


def card_with(values: dict[str, Any]) -> Any:
    return tiny_card(revision="a" * 40, oracles=values)


VALUES = {"absolute": 1e-3, "cases": [{"text": "ACGT", "mean_log_prob": -1.0}], "prompts_csv": {}, "odd": 1}


@pytest.mark.parametrize(
    ("described", "loaded_revision", "reason"),
    [
        ({"dtype": "bfloat16"}, None, "computed in bfloat16, this model in float32"),
        ({"revision": "b" * 40}, None, f"nexvar verify tiny --revision {'b' * 40}"),
        ({}, "b" * 40, f"of revision {'a' * 40}"),
    ],
)
def test_values_of_another_precision_or_revision_are_left_out_and_the_line_says_why(described, loaded_revision, reason):
    checks = list(oracles.compare(tiny_loaded(), card_with(VALUES | described), revision=loaded_revision))
    assert [check.outcome for check in checks] == ["skipped"] * 3
    assert all(reason in check.detail for check in checks)


def test_values_of_a_revision_are_compared_where_that_one_is_loaded():
    loaded, other = tiny_loaded(), "b" * 40
    right = right_values(loaded, "mean_log_prob")
    for value, outcome in ((right["mean_log_prob"], "ok"), (right["mean_log_prob"] + 1, "FAIL")):
        values = {"revision": other, "absolute": 1e-3, "cases": [{"text": TEXT, "mean_log_prob": value}]}
        (check,) = oracles.compare(loaded, card_with(values), revision=other)
        assert check.outcome == outcome


def test_a_case_may_say_for_itself_what_its_file_says_of_all():
    loaded = tiny_loaded()
    right = right_values(loaded, "mean_log_prob")["mean_log_prob"]
    cases = [
        {"text": TEXT, "mean_log_prob": right + 0.01},
        {"text": TEXT, "mean_log_prob": right + 0.01, "absolute": 0.1},
    ]
    checks = list(oracles.compare(loaded, card_with({"absolute": 1e-3, "cases": cases})))
    assert [check.outcome for check in checks] == ["FAIL", "ok"]


# -- the shipped ones


WITH_VALUES = [card for card in cards.all_cards().values() if card.oracles]


@pytest.mark.parametrize("card", WITH_VALUES, ids=[card.name for card in WITH_VALUES])
def test_the_values_of_a_card_are_readable_of_known_kinds_and_say_their_precision(card):
    values = oracles.recorded(card)
    assert set(values) <= {"cases", "prompts_csv", "generation_identity", "brca1_auroc", *oracles.DESCRIBES}
    cases = [{**values, **case} for case in values.get("cases", ())]
    for case in cases:
        assert set(COMPARED) & set(case) and case["absolute"] > 0
        assert case["source"] and case["what"]
    if card.weights is None:
        assert all(each["dtype"] in ("float32", "bfloat16") for each in cases or [values])


def test_at_least_twenty_cards_carry_values():
    assert len(WITH_VALUES) >= 24


def test_a_real_card_has_log_probabilities_that_anybody_can_compare():
    for card in cards.all_cards().values():
        if card.parity == "real":
            assert any("log_probs" in case for case in oracles.recorded(card)["cases"])
            assert all(file.sha256 for file in card.files)


def test_the_shipped_values_of_the_text_kinds_fit_their_tokenizers():
    """Nothing is compared here (no weights): lengths, letters and vocabulary agree with what they are compared with."""
    for name in ("hyenadna_tiny_1k", "hyenadna_small_32k", "evo1_131k_base", "nt_v2_50m"):
        card = cards.get(name)
        tokenizer = make(card.tokenizer)
        for case in oracles.recorded(card)["cases"]:
            tokens = tokenizer.encode(case["text"], special=False).ids
            assert len(case["text"]) <= card.context
            assert "log_probs" not in case or len(case["log_probs"]) == len(tokens) - 1
            assert "mean_log_prob" not in case or case["mean_log_prob"] < 0
            for place, texts in case.get("token_probabilities", {}).items():
                assert tokenizer.detokenize([tokens[int(place)]]) in texts
                assert all(len(tokenizer.encode(text, special=False).ids) == 1 for text in texts)


def test_evo_1s_wrongly_permuted_revision_is_not_compared_with_the_right_one():
    card = cards.get("evo1_131k_base")
    loaded = dataclasses.replace(tiny_loaded(), card=card, dtype=torch.bfloat16)
    checks = list(oracles.compare(loaded, card))
    assert [check.outcome for check in checks] == ["skipped", "skipped"]
    assert all("--revision 78c715ab" in check.detail for check in checks)
    assert "wrongly permuted" in json.dumps(oracles.recorded(card))


def test_generation_identity_is_the_share_of_right_tokens():
    config = striped_hyena2.Config(
        hidden_size=16, pattern="SD*H", num_attention_heads=2, inner_mlp_size=16, vocab_size=128, hcm_filter_groups=4
    )
    module = striped_hyena2.Model(config)
    module.init_weights(torch.Generator().manual_seed(1))
    loaded = Loaded(module.eval(), make("byte"), tiny_card(), torch.device("cpu"), torch.float32)
    sequence = "ACGTTGCATTGACCAGTAACGGTACCATTTGC"
    tokens = list(sequence[:16].encode())
    with torch.no_grad():
        for _ in range(8):  # greedily, everything again at every token
            tokens.append(int(module(torch.tensor([tokens])).logits[0, -1].argmax()))
    truth = 100 * sum(a == b for a, b in zip(bytes(tokens[16:]), sequence[16:24].encode(), strict=True)) / 8
    assert oracles.generation_identity(loaded, [sequence], 8) == [truth]
    copied = sequence[:16] + bytes(t if 32 <= t < 127 else 65 for t in tokens[16:]).decode() + "A" * 8
    (all_right,) = oracles.generation_identity(loaded, [copied], 8)
    assert all_right >= truth
