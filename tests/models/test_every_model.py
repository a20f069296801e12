"""What holds for every architecture: enumerated over the golden checkpoints, so that a new one is tested unasked."""

from __future__ import annotations

import pytest

from nexvar import models
from nexvar.evals import contract
from nexvar.genome.reference import Fasta
from nexvar.inference import scorers
from nexvar.inference.core import likelihood
from nexvar.inference.core.batching import Tally
from nexvar.inference.options import Options
from nexvar.runs.rows import score_variants
from nexvar.weights.load import Loaded, load
from places import CHECKPOINTS
from toy_genome import random_bases, write_fasta

BASES = random_bases(600, seed=3)


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda folder: folder.name)
def loaded(request) -> Loaded:
    return load(request.param, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def causal(loaded):
    if loaded.card.objective != "causal":
        pytest.skip("a masked model")
    return loaded


def test_every_architecture_has_a_golden_checkpoint():
    assert {load(folder).card.architecture for folder in CHECKPOINTS} == set(models.ARCHITECTURES)


@pytest.mark.parametrize("one", contract.MODEL_CHECKS, ids=lambda one: one.__name__)
def test_the_contract_holds(loaded, one):
    """Taps, logits, padding, strands, caches, …: what ``python -m nexvar.evals.contract`` asks of a package."""
    result = contract.check(loaded, one, loaded.card.architecture)
    if result.outcome == "skipped":
        pytest.skip(result.detail)
    assert result.outcome == "ok", str(result)


def readouts_for(loaded: Loaded) -> tuple[str, ...]:
    wrong = scorers.MASKED if loaded.card.objective == "causal" else scorers.LIKELIHOOD
    if not loaded.module.has_head:
        return scorers.EMBEDDING
    return tuple(name for name in scorers.READOUTS if name not in wrong)


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    return Fasta(write_fasta(tmp_path_factory.mktemp("genome") / "ref.fa", chr1=BASES))


VARIANTS = ["chr1:300" + BASES[299] + ">" + alt for alt in "ACGT" if alt != BASES[299]] + [
    f"chr1:300{BASES[299:301]}>{BASES[299]}",
    f"chr1:310{BASES[309]}>{BASES[309]}GG",
    f"chr1:320{BASES[319:322]}>{'TTT' if BASES[319:322] != 'TTT' else 'AAA'}",
]


def test_shared_work_gives_the_numbers_of_one_window_at_a_time(loaded, fasta):
    """Every readout, every kind of variant: shared and batched equals alone and unbatched."""
    readouts = readouts_for(loaded)
    options = Options(window=128, readouts=readouts)
    together = list(score_variants(loaded, VARIANTS, fasta, options))
    assert [str(row.status) for row in together] == ["OK"] * len(VARIANTS)
    for variant, row in zip(VARIANTS, together, strict=True):
        (alone,) = score_variants(
            loaded, [variant], fasta, Options(window=128, readouts=readouts, share=False, batch_tokens=1)
        )
        if loaded.module.has_head:
            assert alone.llr == pytest.approx(row.llr, rel=1e-4, abs=2e-5)
        for name, value in alone.extra.items():
            per_token = 128 if "_SUM" in name or name.startswith("SITE") else 1
            assert value == pytest.approx(row.extra[name], rel=1e-4, abs=2e-5 * per_token), name


@pytest.mark.parametrize("readouts", [("llr_sum", "site"), ("site",)])
def test_variants_of_a_tile_branch_from_one_pass(causal, fasta, readouts, monkeypatch):
    """Four places of one window, far enough apart for four branch points."""
    monkeypatch.setattr(likelihood, "FORWARD_TOKENS", 8)
    at = [f"chr1:{p}{BASES[p - 1]}>{'A' if BASES[p - 1] != 'A' else 'C'}" for p in (130, 145, 165, 190)]
    options = dict(window=128, windowing="tiled", readouts=readouts, strand="forward")
    shared = list(score_variants(causal, at, fasta, Options(**options)))
    alone = list(score_variants(causal, at, fasta, Options(**options, share=False, batch_tokens=1)))
    assert len({row.window_start for row in shared}) == 1
    for a, b in zip(shared, alone, strict=True):
        for name in a.extra:
            if not name.endswith("_REV"):
                assert a.extra[name] == pytest.approx(b.extra[name], rel=1e-4, abs=2e-3), name


def test_computed_tokens_are_counted(loaded, fasta):
    tally, readouts = Tally(), readouts_for(loaded)
    from nexvar.genome.windows import allele_windows

    windows = [allele_windows(fasta, "chr1", 299, BASES[299], alt, 128) for alt in "ACGT" if alt != BASES[299]]
    scorers.score_windows(loaded, windows, scorers.ReadoutSettings(readouts[:1], 4096), tally)
    assert 0 < tally.computed < tally.naive
