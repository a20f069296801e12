"""Attributions are what captum, loops over substitutions and windows one by one give: for every golden checkpoint."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar import NexVar, NexVarError
from nexvar.inference import attribution
from nexvar.inference.attribution import gradient, targets
from nexvar.inference.attribution.integrated import shuffled
from nexvar.inference.attribution.reading import read
from nexvar.inference.core import likelihood
from nexvar.inference.core.batching import Tally
from nexvar.weights.load import Loaded, load
from places import GOLDEN, LANGUAGE_MODELS
from tiny_masked import tiny_masked
from toy_genome import other_bases, random_bases

TEXT = random_bases(48, seed=2)
AT = 31


@pytest.fixture(scope="module", params=LANGUAGE_MODELS, ids=lambda folder: folder.name)
def loaded(request) -> Loaded:
    return load(request.param, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def causal() -> Loaded:
    return load("nexvar_mito", device="cpu")


def is_bpe(loaded: Loaded) -> bool:
    return not read(loaded, "ACGT").tokens_of_bases


def a_target(loaded: Loaded) -> targets.Target:
    """One that every model has, and that costs a pass or two."""
    return targets.variant(AT, other_bases(TEXT[AT])[0]) if not is_bpe(loaded) else targets.likelihood()


def number(loaded: Loaded, reading, embeds_BTD: torch.Tensor) -> torch.Tensor:
    """The LLR (BPE: the pseudo-log-likelihood) from embeddings, written out: (B,)."""
    ids = torch.as_tensor(reading.ids_T)
    module, mask = loaded.module, loaded.tokenizer.mask_id

    def log_p(put: dict[int, int]) -> torch.Tensor:
        given, beside = embeds_BTD.clone(), ids.repeat(len(embeds_BTD), 1)
        for at, token in put.items():
            given[:, at], beside[:, at] = reading.embedded(np.array([token]))[0], token
        return module(beside, embeds_BLD=given).logits.log_softmax(-1)

    if is_bpe(loaded):
        places = [t for t, (start, end) in enumerate(reading.spans_T) if start < end]
        return sum(log_p({t: mask})[:, t, ids[t]] for t in places)
    other = read(loaded, TEXT[:AT] + other_bases(TEXT[AT])[0] + TEXT[AT + 1 :])
    at = int(reading.token_L[AT])
    one, two = int(ids[at]), int(other.ids_T[at])
    if not module.causal:
        found = log_p({at: mask})[:, at]
        return found[:, two] - found[:, one]
    total = 0
    for token, sign in ((two, 1), (one, -1)):
        labels = ids.clone()
        labels[at] = token
        found = log_p({at: token})[:, :-1].gather(2, labels[1:].expand(len(embeds_BTD), -1)[..., None])
        total = total + sign * found.sum((1, 2))
    return total


def per_base(reading, of_token_T: torch.Tensor) -> np.ndarray:
    """The same share for each base of a token, in a loop."""
    values = []
    for i in range(len(TEXT)):
        token = reading.token_L[i]
        values.append(float(of_token_T[token]) / int((reading.token_L == token).sum()))
    return np.array(values)


def test_saliency_is_captums_input_x_gradient(loaded):
    captum = pytest.importorskip("captum.attr", reason="pip install 'nexvar[dev]'")
    reading, target = read(loaded, TEXT), a_target(loaded)
    ours = attribution.attribute(loaded, TEXT, target=target)
    embeds = reading.embedded()[None]
    with torch.no_grad():
        value = float(number(loaded, reading, embeds))
    theirs = captum.InputXGradient(lambda e: number(loaded, reading, e)).attribute(embeds.requires_grad_())
    wanted = per_base(reading, theirs.sum(-1)[0].detach())
    np.testing.assert_allclose(ours.values_K, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))
    assert ours.value == pytest.approx(value, rel=1e-4, abs=1e-3)
    if not is_bpe(loaded):
        assert ours.values_K[AT] == 0 or len(set(reading.spans_T)) < len(TEXT)  # put there: nothing to explain
    assert np.abs(ours.values_K).max() > 0


def test_integrated_gradients_are_captums(loaded):
    captum = pytest.importorskip("captum.attr", reason="pip install 'nexvar[dev]'")
    reading, target = read(loaded, TEXT), a_target(loaded)
    baseline = "zeros" if is_bpe(loaded) else "N"
    ours = attribution.attribute(loaded, TEXT, method="integrated", target=target, steps=6, baseline=baseline)
    embeds = reading.embedded()
    is_base = torch.tensor([start < end for start, end in reading.spans_T])[:, None]
    n = torch.zeros(embeds.shape[1]) if is_bpe(loaded) else read(loaded, "N").embedded()[_first_base(read(loaded, "N"))]
    method = captum.IntegratedGradients(lambda e: number(loaded, reading, e))
    theirs = method.attribute(
        embeds[None], baselines=torch.where(is_base, n, embeds)[None], n_steps=6, internal_batch_size=6
    )
    wanted = per_base(reading, theirs.sum(-1)[0].detach())
    np.testing.assert_allclose(ours.values_K, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))


def _first_base(reading) -> int:
    return next(t for t, (start, end) in enumerate(reading.spans_T) if start < end)


@pytest.mark.parametrize("folder", ["caduceus_ph_tiny", "nt_v1_tiny", "hyenadna_tiny", "ntv3_pre_tiny"])
@pytest.mark.parametrize("baseline", ["N", "shuffled"])
def test_integrated_gradients_are_complete(folder, baseline):
    """They add up to f(sequence) - f(baseline), the closer the more steps: random weights make rough ground."""
    loaded = load(GOLDEN / folder, dtype="float32", device="cpu")
    gaps = []
    for steps in (4, 128):
        found = attribution.attribute(
            loaded, TEXT, method="integrated", target=targets.base(AT), baseline=baseline, steps=steps, shuffles=2
        )
        gaps.append(abs(found.value - found.baseline_value - float(found.values_K.sum())))
    assert gaps[1] < 0.02 * max(1, abs(found.value - found.baseline_value))
    assert gaps[1] < gaps[0] or gaps[0] < 1e-3


def test_hypothetical_scores_are_the_gradient_at_the_one_hot_input(loaded):
    """Through the embedding table: every base in its place has (its embedding) x (the gradient there)."""
    if is_bpe(loaded):
        assert attribution.attribute(loaded, TEXT).hypothetical_K4 is None
        return
    reading, target = read(loaded, TEXT), targets.base(AT)
    found = attribution.attribute(loaded, TEXT, target=target, keep=(5, 20))
    own = [found.hypothetical_K4[k, "ACGT".index(base)] for k, base in enumerate(found.bases)]
    np.testing.assert_allclose(own, found.values_K, atol=1e-5 * max(1, np.abs(found.values_K).max()))
    _, gradient_TD = gradient.gradients(reading, target, lambda _: reading.embedded(), [1.0])
    for k in (0, 7):
        token = int(reading.token_L[5 + k])
        for b, base in enumerate("ACGT"):
            other = read(loaded, TEXT[: 5 + k] + base + TEXT[6 + k :]).embedded()[token]
            more = float(((other - reading.embedded()[token]) * gradient_TD[token]).sum())
            assert found.hypothetical_K4[k, b] - found.values_K[k] == pytest.approx(more, abs=1e-4, rel=1e-3)


def log_likelihood(loaded: Loaded, text: str) -> float:
    ids = torch.as_tensor(read(loaded, text).ids_T)[None]
    with torch.no_grad():
        log_p = loaded.module(ids).logits[0, :-1].double().log_softmax(-1)
    return float(log_p.gather(1, ids[0, 1:, None]).sum())


def test_mutagenesis_of_the_likelihood_is_the_difference_of_two_passes(loaded):
    keep = (20, 23)
    found = attribution.attribute(loaded, TEXT, method="ism", keep=keep)
    for k, i in enumerate(range(*keep)):
        for b, base in enumerate("ACGT"):
            changed = TEXT[:i] + base + TEXT[i + 1 :]
            if loaded.module.causal:
                wanted = log_likelihood(loaded, changed) - log_likelihood(loaded, TEXT)
            elif is_bpe(loaded):
                continue  # other tokens on either side: tests/inference/test_definitions.py
            else:
                wanted = (
                    attribution.attribute(loaded, TEXT, target=targets.variant(i, base)).value if base != TEXT[i] else 0
                )
            assert found.hypothetical_K4[k, b] == pytest.approx(wanted, abs=2e-3, rel=1e-4), (i, base)
    np.testing.assert_allclose(found.values_K, -found.hypothetical_K4.sum(1) / 3, rtol=1e-5)


def test_mutagenesis_of_another_target_is_a_loop_over_the_sequences(loaded):
    if is_bpe(loaded):
        pytest.skip("has no odds of a base")
    target = targets.base(AT, "G")
    found = attribution.attribute(loaded, TEXT, method="ism", target=target, keep=(20, 22))
    for k, i in enumerate((20, 21)):
        for b, base in enumerate("ACGT"):
            changed = TEXT[:i] + base + TEXT[i + 1 :]
            wanted = attribution.attribute(loaded, changed, target=target).value - found.value
            assert found.hypothetical_K4[k, b] == pytest.approx(wanted, abs=1e-3, rel=1e-4)


def test_mutagenesis_of_the_base_that_a_target_asks_for_changes_nothing(loaded):
    if is_bpe(loaded):
        pytest.skip("has no odds of a base")
    for target in (targets.base(AT), targets.variant(AT, other_bases(TEXT[AT])[0])):
        found = attribution.attribute(loaded, TEXT, method="ism", target=target, keep=(AT - 1, AT + 1))
        assert not found.hypothetical_K4[1].any() and found.values_K[1] == 0
        assert np.isfinite(found.hypothetical_K4[0]).all()


def log2_odds(loaded: Loaded, text: str, i: int) -> np.ndarray:
    """(4,): of each base at place ``i``, from one unmasked pass, by sums of probabilities; 0 where nothing predicts."""
    reading = read(loaded, text)
    token = int(reading.token_L[i])
    at = token - 1 if loaded.module.causal else token
    if at < 0:
        return np.zeros(4)
    with torch.no_grad():
        logits = loaded.module(torch.as_tensor(reading.ids_T)[None]).logits[0, at].double()
    bases, tokenizer = loaded.tokenizer.base_ids(), loaded.tokenizer
    if bases is not None:
        tokens = {base: [bases[base]] for base in "ACGT"}
    else:
        offset = i - reading.spans_T[token][0]
        texts = [(t, tokenizer.tokens[t]) for t in range(tokenizer.vocab_size) if t not in tokenizer.special_ids]
        tokens = {base: [t for t, s in texts if s[offset : offset + 1] == base] for base in "ACGT"}
    of = [logits[tokens[base]].logsumexp(0) for base in "ACGT"]
    others = [logits[[t for other in "ACGT" if other != base for t in tokens[other]]].logsumexp(0) for base in "ACGT"]
    return np.array([float(one - rest) for one, rest in zip(of, others, strict=True)]) / np.log(2)


def test_a_dependency_map_is_that_of_windows_one_by_one(loaded, monkeypatch):
    monkeypatch.setattr(likelihood, "FORWARD_TOKENS", 4)  # branches, though the sequence is short
    keep = range(24, 32)
    if is_bpe(loaded):
        with pytest.raises(NexVarError, match="no odds of a base"):
            attribution.dependency_map(loaded, TEXT)
        return
    found = attribution.dependency_map(loaded, TEXT, keep=(keep.start, keep.stop))
    assert found.shape == (8, 8) and found.dtype == np.float32 and not np.diag(found).any()
    reference = {j: log2_odds(loaded, TEXT, j) for j in keep}
    for i in (24, 29):
        for j in (24, 26, 31):
            changed = [TEXT[:i] + base + TEXT[i + 1 :] for base in other_bases(TEXT[i])]
            wanted = max(np.abs(log2_odds(loaded, text, j) - reference[j]).max() for text in changed) if i != j else 0
            assert found[i - 24, j - 24] == pytest.approx(wanted, abs=2e-3, rel=1e-3), (i, j)
    if loaded.module.causal:
        assert not np.tril(found).any() and np.triu(found, 1).any()
        other = attribution.dependency_map(loaded, TEXT, keep=(keep.start, keep.stop), strand="both")
        np.testing.assert_allclose(np.triu(other), found, atol=1e-5)
        assert np.tril(other, -1).any()


def test_a_causal_map_reads_less_than_its_windows(causal):
    text, tally = random_bases(400, seed=5), Tally()
    attribution.dependency_map(causal, text, keep=(200, 240), tally=tally)
    assert tally.computed < 0.2 * 240 * (3 * 40 + 1)


def test_the_batch_changes_nothing(causal):
    text = random_bases(150, seed=6)
    one, many = (attribution.dependency_map(causal, text, keep=(90, 120), batch_tokens=n) for n in (150, 1 << 14))
    np.testing.assert_allclose(one, many, atol=1e-4)


def test_weights_and_the_grad_mode_are_as_before(causal):
    wanted = [p.requires_grad for p in causal.module.parameters()]
    with torch.inference_mode():
        first = attribution.attribute(causal, TEXT)
    assert [p.requires_grad for p in causal.module.parameters()] == wanted
    assert all(p.grad is None for p in causal.module.parameters())
    np.testing.assert_array_equal(attribution.attribute(causal, TEXT).values_K, first.values_K)


def test_many_points_in_little_memory_give_the_same(causal, monkeypatch):
    found = attribution.attribute(causal, TEXT, method="integrated", steps=5)
    rows = []
    forward = gradient.forward
    monkeypatch.setattr(gradient, "forward", lambda *a, **k: rows.append(len(a[2])) or forward(*a, **k))
    monkeypatch.setattr(gradient.machine, "free_memory", lambda device: int(2.5 * 48 * 60_000))
    again = attribution.attribute(causal, TEXT, method="integrated", steps=5)
    assert set(rows) == {1}
    np.testing.assert_allclose(again.values_K, found.values_K, atol=1e-4)


def test_what_does_not_fit_the_memory_is_one_line(causal, monkeypatch):
    monkeypatch.setattr(gradient.machine, "free_memory", lambda device: 1000)
    with pytest.raises(NexVarError, match=r"gradient of 48 tokens keeps about .*are free.*'ism'"):
        attribution.attribute(causal, TEXT)


def test_weights_without_a_gradient_are_one_line_and_the_other_methods_work():
    loaded = load(GOLDEN / "hyenadna_tiny", dtype="float32", device="cpu")
    for layer in loaded.module.get_submodule("hyena.backbone.layers"):  # as a kernel without a backward
        layer.register_forward_pre_hook(
            lambda _, given: tuple(g.detach() if isinstance(g, torch.Tensor) else g for g in given)
        )
    for method in ("saliency", "integrated"):
        with pytest.raises(NexVarError, match="no gradient comes through the weights of hyenadna_tiny.*'ism'"):
            attribution.attribute(loaded, TEXT, method=method)
    assert attribution.attribute(loaded, TEXT, method="ism", keep=(20, 22)).values_K.any()
    assert attribution.dependency_map(loaded, TEXT, keep=(20, 24)).any()


@pytest.mark.parametrize("method", ["int8", "int4"])
def test_gradients_pass_through_quantised_weights_of_cpus(method):
    loaded = load("nexvar_mito", device="cpu", quantize=method)
    found, exact = attribution.attribute(loaded, TEXT), attribution.attribute(load("nexvar_mito", device="cpu"), TEXT)
    assert np.corrcoef(found.values_K, exact.values_K)[0, 1] > (0.98 if method == "int8" else 0.7)


def test_tracks_of_a_species_are_targets():
    loaded = load(GOLDEN / "ntv3_post_tiny", dtype="float32", device="cpu")
    species, names = next(iter(loaded.module.config.bigwigs_per_species.items()))
    text = random_bases(loaded.module.config.unit * 4, seed=8)
    target = targets.track(loaded, names[-1], species)
    found = attribution.attribute(loaded, text, target=target)
    ids = torch.as_tensor(read(loaded, text).ids_T)[None]
    with torch.no_grad():
        out = loaded.module(ids, species_ids_B=loaded.module.species_ids(species))
    assert found.value == pytest.approx(float(out.extras["bigwig_tracks_logits"][0, :, len(names) - 1].sum()), rel=1e-4)
    assert found.values_K.any()
    with pytest.raises(NexVarError, match="window: 15 bases are read, and .* a multiple of 4: such as 12"):
        attribution.attribute(loaded, text[:15], target=target)
    with pytest.raises(NexVarError, match=f"no track 'x{names[0]}'.*did you mean {names[0]}"):
        targets.track(loaded, f"x{names[0]}", species)


@given(st.text("ACGT", min_size=2, max_size=60), st.integers(0, 99))
def test_shuffles_keep_every_pair_of_neighbours(text, seed):
    other = shuffled(text, random.Random(seed))
    assert Counter(zip(other, other[1:], strict=False)) == Counter(zip(text, text[1:], strict=False))
    assert (other[0], other[-1]) == (text[0], text[-1])


def test_shuffles_are_other_sequences():
    assert len({shuffled(TEXT, random.Random(seed)) for seed in range(10)}) > 8


BAD = [
    (dict(method="saliancy"), "no method 'saliancy'.*did you mean 'saliency'"),
    (dict(method=3), "no method 3"),
    (dict(target="likelihood"), "target is 'likelihood'"),
    (dict(keep=(5, 5)), r"\(5, 5\) of 48 bases"),
    (dict(keep=(0, 49)), r"\(0, 49\) of 48 bases"),
    (dict(keep=7), "keep"),
    (dict(method="integrated", baseline="n"), "no baseline 'n'"),
    (dict(method="integrated", steps=0), "steps is 0"),
    (dict(target=targets.base(48)), "no base at position 49"),
    (dict(target=targets.base(0)), "nothing predicts the first base"),
    (dict(target=targets.variant(3, TEXT[3])), "no substitution"),
]


@pytest.mark.parametrize(("options", "said"), BAD)
def test_bad_input_is_one_line(causal, options, said):
    with pytest.raises(NexVarError, match=said):
        attribution.attribute(causal, TEXT, **options)


def test_an_n_is_context_but_cannot_be_explained(causal):
    text = TEXT[:10] + "N" + TEXT[11:]
    with pytest.raises(NexVarError, match="'N' at position 11"):
        attribution.attribute(causal, text)
    with pytest.raises(NexVarError, match="'N' at position 11"):
        attribution.dependency_map(causal, text)
    assert attribution.attribute(causal, text, keep=(20, 30)).values_K.any()
    assert attribution.dependency_map(causal, text, keep=(20, 30)).any()


def test_a_model_that_takes_no_embeddings_is_told_so():
    with pytest.raises(NexVarError, match="takes no embeddings.*'ism'"):
        attribution.attribute(tiny_masked(), TEXT)
    assert attribution.attribute(tiny_masked(), TEXT, method="ism", keep=(20, 22)).values_K.any()


def test_the_class_has_both_verbs():
    model = NexVar("nexvar_mito", device="cpu")
    assert model.attribute(TEXT, keep=(3, 9)).bases == TEXT[3:9]
    assert model.dependency_map(TEXT, keep=(3, 9)).shape == (6, 6)


@pytest.mark.parametrize("make", [targets.base, targets.variant])
@pytest.mark.parametrize(
    ("given", "said"),
    [((1.5, "A"), "pos0 is 1.5"), (("1", "A"), "pos0 is '1'"), ((-1, "A"), "pos0 is -1"), ((3, "a"), "no base 'a'"),
     ((3, "AC"), "no base 'AC'"), ((3, 5), "no base 5"), ((3, ""), "no base ''")],
)  # fmt: skip
def test_places_and_bases_that_are_none(make, given, said):
    with pytest.raises(NexVarError, match=said):
        make(*given)
