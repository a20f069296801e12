"""What holds for every architecture: enumerated over the golden checkpoints, so that a new one is tested unasked."""

from __future__ import annotations

import pytest
import torch

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.inference import scorers
from nexvar.inference.core import likelihood
from nexvar.inference.core.batching import Tally
from nexvar.inference.score import Options
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


def ids_of(loaded: Loaded, length: int) -> torch.Tensor:
    return torch.tensor([loaded.tokenizer.encode(BASES[:length], special=False).ids])


def test_every_architecture_has_a_golden_checkpoint():
    assert {load(folder).card.architecture for folder in CHECKPOINTS} == set(models.ARCHITECTURES)


@torch.no_grad()
def test_every_tap_is_given_and_unknown_ones_name_the_nearest(loaded):
    module = loaded.module
    ids = ids_of(loaded, 128)
    assert module.last_hidden in module.tap_names
    out = module(ids, taps=module.tap_names, logits=False)
    assert out.logits is None
    assert set(out.taps) == set(module.tap_names)
    assert all(torch.isfinite(value).all() for value in out.taps.values())
    with pytest.raises(NexVarError, match="did you mean"):
        module(ids, taps=("blocks.no_such",))


@torch.no_grad()
def test_a_slice_of_logits_is_that_slice(loaded):
    ids = ids_of(loaded, 128)
    whole = loaded.module(ids).logits
    torch.testing.assert_close(loaded.module(ids, logits=slice(-2, None)).logits, whole[:, -2:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padding_changes_no_real_token(loaded):
    if not loaded.module.pads_safely:
        pytest.skip("says that it does not pad safely")
    ids = ids_of(loaded, 96)
    padded = torch.cat([ids, torch.full((1, 32), loaded.tokenizer.pad_id)], 1)
    mask = torch.arange(padded.shape[1])[None] < ids.shape[1]
    alone = loaded.module(ids, mask_BL=torch.ones_like(ids, dtype=torch.bool)).logits
    beside = loaded.module(padded, mask_BL=mask).logits[:, : ids.shape[1]]
    torch.testing.assert_close(beside, alone, atol=2e-4, rtol=1e-4)


def test_gradients_reach_every_parameter_that_the_logits_use(loaded):
    module = loaded.module
    with torch.enable_grad():
        module(ids_of(loaded, 128)).logits.float().logsumexp(-1).sum().backward()
    reached = [name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    module.zero_grad(set_to_none=True)
    assert len(reached) > 0.5 * len(list(module.parameters()))


@torch.no_grad()
def test_the_other_strand_of_an_equivariant_model(loaded):
    if not loaded.module.rc_equivariant:
        pytest.skip("not equivariant")
    sequence = BASES[:101]
    forward = loaded.module(ids_of(loaded, 101)).logits[0]
    other = loaded.tokenizer.encode(reverse_complement(sequence), special=False).ids
    reverse = loaded.module(torch.tensor([other])).logits[0].flip(0)
    base = loaded.tokenizer.base_ids()
    torch.testing.assert_close(
        forward[:, [base[b] for b in "ACGT"]], reverse[:, [base[b] for b in "TGCA"]], atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
@pytest.mark.parametrize("cut", [(1,), (2, 3), (7,), (1, 1, 1, 1, 1, 1, 1), (50, 51)])
def test_a_cached_forward_in_any_pieces_is_the_whole_forward(causal, cut):
    ids = ids_of(causal, 120)
    whole = causal.module(ids).logits
    cache = causal.module.new_cache(1, 120)
    pieces = ids.split([*cut, 120 - sum(cut)], dim=1)
    logits = torch.cat([causal.module(piece, cache=cache).logits for piece in pieces], 1)
    assert cache.length == 120
    torch.testing.assert_close(logits, whole, atol=5e-4, rtol=1e-4)


@torch.no_grad()
def test_branches_of_a_cache_do_not_see_each_other(causal):
    ids = ids_of(causal, 100)
    other = ids_of(causal, 120)[:, 100:]
    cache = causal.module.new_cache(1, 120)
    causal.module(ids, cache=cache)
    branches = cache.select(torch.tensor([0, 0]))
    rest = torch.cat([other, other.flip(1)])
    both = causal.module(rest, cache=branches).logits
    for row in range(2):
        alone = causal.module(torch.cat([ids, rest[row : row + 1]], 1)).logits[:, 100:]
        torch.testing.assert_close(both[row : row + 1], alone, atol=5e-4, rtol=1e-4)
    assert cache.length == 100
    again = causal.module(other, cache=cache).logits
    torch.testing.assert_close(again, both[:1], atol=1e-4, rtol=1e-4)


def readouts_for(loaded: Loaded) -> tuple[str, ...]:
    wrong = scorers.MASKED if loaded.card.objective == "causal" else scorers.LIKELIHOOD
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
        assert alone.llr == pytest.approx(row.llr, rel=1e-4, abs=2e-5)
        for name, value in alone.extra.items():
            per_token = 128 if "_SUM" in name or name.startswith("SITE") else 1
            assert value == pytest.approx(row.extra[name], rel=1e-4, abs=2e-5 * per_token), name


@pytest.mark.parametrize("readouts", [("llr_sum", "site"), ("site",)])
def test_variants_of_a_tile_branch_from_one_pass(causal, fasta, readouts, monkeypatch):
    """Four places of one window, far enough apart for four branch points."""
    monkeypatch.setattr(likelihood, "SHORTEST_SHARED_PREFIX", 8)
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
