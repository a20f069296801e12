"""Released weights against the official code's outputs: ``NEXVAR_REAL=FOLDER pytest -m real``.

The folder holds, for each checkpoint, the weights as ``<card>/`` and ``*_official_outputs.json``: ``checkpoint`` (the
hub repository), ``sha256``, and ``items``, each a sequence with any of logits_first, logits_last (of the first and the
last token), hidden_last_first8, hidden_mean_first8, token_logprobs and mean_logprob_per_base; ``sep``: whether the
official tokenizer's [SEP] was there. Nothing of it is part of the project.
"""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from nexvar import NexVar, cards, verify

FOLDER = os.environ.get("NEXVAR_REAL")
NO_WEIGHTS = "needs released weights: NEXVAR_REAL=FOLDER pytest -m real"
pytestmark = [pytest.mark.real, pytest.mark.skipif(not FOLDER, reason=NO_WEIGHTS)]
FILES = sorted(Path(FOLDER).glob("*_official_outputs.json")) if FOLDER else []
RECORDED = [json.loads(path.read_text(encoding="utf-8")) for path in FILES]
ITEMS = [(record["checkpoint"], item) for record in RECORDED for item in record["items"]]


@cache
def opened(checkpoint: str) -> NexVar:
    return NexVar(Path(str(FOLDER)) / cards.get(checkpoint).name, device="cpu", dtype="float32")


def test_the_folder_holds_something_to_compare():
    assert ITEMS


@pytest.mark.parametrize("record", RECORDED, ids=[record["checkpoint"] for record in RECORDED])
def test_verify_compares_the_cards_values_with_the_released_file(record):
    card = cards.get(record["checkpoint"])
    assert card.parity == "real"
    assert record["sha256"] in [file.sha256 for file in card.files]
    checks = list(verify.verify(Path(str(FOLDER)) / card.name, device="cpu"))
    assert {check.outcome for check in checks} == {"ok"}, [str(check) for check in checks]
    assert any(card.name in check.detail for check in checks)
    assert sum("log-probabilities" in check.name for check in checks) >= 2


@pytest.mark.parametrize(("checkpoint", "item"), ITEMS, ids=[f"{c}-{len(i['sequence'])}" for c, i in ITEMS])
def test_every_number_of_the_official_code(checkpoint: str, item: dict[str, Any]):
    model, sequence = opened(checkpoint), item["sequence"]
    ids = torch.tensor([model.tokenizer.encode(sequence, special=item["sep"]).ids])
    layer = model.model.last_hidden
    outputs, taps = model(ids, return_embeddings=True, layer_names=[layer])
    logits, hidden = outputs.logits[0], taps[layer][0]
    L = len(sequence)
    log_probs = logits[: L - 1].log_softmax(-1).gather(-1, ids[0, 1:L, None])[:, 0]
    for name, ours, tolerance in (
        ("logits_first", logits[0], 2e-5),
        ("logits_last", logits[-1], 2e-5),
        ("hidden_last_first8", hidden[-1, :8], 5e-6),
        ("hidden_mean_first8", hidden.mean(0)[:8], 5e-6),
        ("token_logprobs", log_probs, 2e-5),
    ):
        torch.testing.assert_close(ours, torch.tensor(item[name]), atol=tolerance, rtol=0, msg=f"{name} differs")
    (mean,) = model.score_sequences([sequence])
    assert mean == pytest.approx(item["mean_logprob_per_base"], abs=1e-6)


def test_the_perplexity_of_human_regions_is_the_papers():
    """Nguyen et al. 2023, table 1: 3.24 for the tiny model on the human genome."""
    fasta = next(iter(Path(str(FOLDER)).glob("recorded/*hg38_regions.fasta")), None)
    if fasta is None or "LongSafari/hyenadna-tiny-1k-seqlen-hf" not in {c for c, _ in ITEMS}:
        pytest.skip("no human regions or no hyenadna_tiny_1k in the folder")
    records = fasta.read_text(encoding="utf-8").split(">")[1:]
    sequences = ["".join(record.split("\n")[1:]) for record in records]
    means = opened("LongSafari/hyenadna-tiny-1k-seqlen-hf").score_sequences(sequences)
    assert math.exp(-sum(means) / len(means)) == pytest.approx(3.24, abs=0.05)
