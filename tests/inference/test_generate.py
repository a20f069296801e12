"""Generation: the sampling rule, seeds, batches of unequal prompts, bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar import threads
from nexvar.errors import NexVarError
from nexvar.inference.core.guidance import Guidance
from nexvar.inference.core.sampling import Sampling, choose
from nexvar.inference.generate import generate as generate_by
from nexvar.inference.generate import stream
from nexvar.weights.load import load
from places import GOLDEN
from tiny import tiny_loaded

LOADED = tiny_loaded()
GUIDANCE = ("guide", "beam", "branches", "chunk")
prompts = st.lists(st.text("ACGT", min_size=1, max_size=12), min_size=1, max_size=4)


def generate(loaded, texts, *, seed=None, return_logits=False, **options):
    """``generate`` with the options of ``Sampling`` and ``Guidance`` by name."""
    guiding = {name: options.pop(name) for name in GUIDANCE if name in options}
    guidance = Guidance(**guiding) if guiding else None
    return generate_by(loaded, texts, Sampling(**options), seed=seed, guidance=guidance, return_logits=return_logits)


@given(prompts, st.integers(0, 2**40), st.sampled_from([0, 1, 4]), st.sampled_from([0.3, 1.0]))
def test_a_batch_gives_what_each_prompt_gives_alone(texts, seed, top_k, top_p):
    texts = list(dict.fromkeys(texts))
    options = dict(n_tokens=5, top_k=top_k, top_p=top_p, seed=seed)
    together = generate(LOADED, texts, **options)
    alone = [generate(LOADED, [text], **options) for text in texts]
    assert together.token_ids == [one.token_ids[0] for one in alone]
    assert together.logprobs_mean == pytest.approx([one.logprobs_mean[0] for one in alone], abs=1e-5)


@given(prompts, st.integers(0, 1000))
def test_the_cache_changes_nothing(texts, seed):
    cached = generate(LOADED, texts, n_tokens=6, seed=seed)
    uncached = generate(LOADED, texts, n_tokens=6, seed=seed, cached=False)
    assert cached.token_ids == uncached.token_ids


def test_long_prompts_enter_in_pieces(monkeypatch):
    whole = generate(LOADED, ["ACGGT" * 20], n_tokens=4, seed=1)
    monkeypatch.setattr("nexvar.inference.core.pieces.PIECE_TOKENS", 7)
    assert generate(LOADED, ["ACGGT" * 20], n_tokens=4, seed=1).token_ids == whole.token_ids


def test_a_streamed_token_has_the_logits_that_generate_keeps():
    options = dict(n_tokens=6, top_k=0)
    made = generate(LOADED, ["ACGT", "TTG"], seed=3, return_logits=True, **options)
    tokens = list(stream(LOADED, ["ACGT", "TTG"], Sampling(**options), seed=3, return_logits=True))
    for prompt in (0, 1):
        rows = [token.logits for token in tokens if token.prompt == prompt]
        assert torch.equal(torch.stack(rows), made.logits[prompt])
    assert next(stream(LOADED, ["ACGT"], Sampling(1), seed=3)).logits is None


def test_copies_of_a_prompt_differ_and_equal_seeds_agree():
    options = dict(n_tokens=30, top_k=0, seed=5)
    first, second = (generate(LOADED, ["ACGT"] * 3, **options) for _ in range(2))
    assert first.token_ids == second.token_ids
    assert len({tuple(ids) for ids in first.token_ids}) == 3


def test_greedy_is_the_argmax_and_logits_are_what_chose_it():
    out = generate(LOADED, ["ACG", "T"], n_tokens=4, top_k=1, return_logits=True)
    assert out.logits is not None
    for ids, logits in zip(out.token_ids, out.logits, strict=True):
        assert logits.shape == (4, 512)
        assert logits.argmax(-1).tolist() == ids


def test_logprobs_mean_is_of_the_model_itself():
    out = generate(LOADED, ["ACGT"], n_tokens=6, top_k=3, temperature=0.5, seed=2, return_logits=True)
    log_probs = out.logits[0].log_softmax(-1)
    expected = log_probs[torch.arange(6), torch.tensor(out.token_ids[0])].mean()
    assert out.logprobs_mean[0] == pytest.approx(float(expected), abs=1e-5)


LOGITS = torch.tensor([[2.0, 0.0, 1.0, -1.0, float("nan")]])


@pytest.mark.parametrize(
    ("top_k", "top_p", "allowed"),
    [(1, 1.0, {0}), (2, 1.0, {0, 2}), (0, 1.0, {0, 1, 2, 3, 4}), (0, 0.05, {0}), (3, 0.7, {0, 2})],
)
def test_only_allowed_tokens_are_drawn(top_k, top_p, allowed):
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    drawn = choose(LOGITS.expand(1000, -1), grid, 1.0, top_k, top_p)
    assert set(drawn.tolist()) == allowed


def test_draws_follow_the_softmax_at_a_temperature():
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1]
    drawn = choose(LOGITS[:, :4].expand(20_000, -1), grid, 0.7, 0, 1.0)
    shares = torch.bincount(drawn, minlength=4).double() / 20_000
    torch.testing.assert_close(shares, (LOGITS[0, :4].double() / 0.7).softmax(-1), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"prompts": [""]},
        {"prompts": "ACGT"},
        {"prompts": ["A" * 8190]},
        {"prompts": ["ACé"]},
        {"n_tokens": 0},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_bad_input_is_one_clear_line(options):
    with pytest.raises(NexVarError) as error:
        generate(LOADED, options.pop("prompts", ["ACGT"]), **{"n_tokens": 5, **options})
    assert "\n" not in str(error.value)


def test_a_masked_model_cannot_generate():
    with pytest.raises(NexVarError, match="masked"):
        generate(tiny_loaded(objective="masked"), ["ACGT"], n_tokens=1)


# -- stopping, restricting, streaming


def test_a_stop_string_ends_a_sequence_and_not_its_neighbours():
    free = generate(LOADED, ["ACG", "TTA", "CCC"], n_tokens=40, seed=3, alphabet="ACGT")
    stop = free.sequences[0][7:10]
    ended = generate(LOADED, ["ACG", "TTA", "CCC"], n_tokens=40, seed=3, alphabet="ACGT", stop=stop)
    for whole, text, stopped, logprobs in zip(
        free.sequences, ended.sequences, ended.stopped, ended.logprobs, strict=True
    ):
        end = whole.find(stop)
        assert text == (whole if end < 0 else whole[: end + 3])
        assert stopped == (None if end < 0 else stop)
        assert len(logprobs) == len(text)
    assert ended.stopped[0] == stop


def test_a_stop_token_ends_a_sequence():
    first = generate(LOADED, ["ACG"], n_tokens=5, seed=3).token_ids[0]
    ended = generate(LOADED, ["ACG"], n_tokens=5, seed=3, stop=[0, first[2]])
    assert ended.token_ids[0] == first[: first.index(first[2]) + 1]
    assert ended.stopped == [first[2]]


@given(prompts, st.integers(0, 1000), st.sampled_from([0, 1, 4]))
def test_an_alphabet_restricts_what_is_drawn_and_keeps_its_proportions(texts, seed, top_k):
    out = generate(LOADED, texts, n_tokens=8, seed=seed, top_k=top_k, alphabet="ACGT", return_logits=True)
    assert all(set(text) <= set("ACGT") and len(text) == 8 for text in out.sequences)
    assert out.logits is not None
    for ids, logits, logprobs in zip(out.token_ids, out.logits, out.logprobs, strict=True):
        model_own = logits.log_softmax(-1)[torch.arange(8), torch.tensor(ids)]
        torch.testing.assert_close(logprobs, model_own, atol=1e-5, rtol=1e-5)
        if top_k == 1:
            allowed = torch.tensor([65, 67, 71, 84])
            assert ids == allowed[logits[:, allowed].argmax(-1)].tolist()


def test_a_stop_token_may_be_drawn_whatever_the_alphabet():
    """End of document is no letter: without it in the draw such a sequence would never stop."""
    loaded = tiny_loaded()
    torch.nn.init.zeros_(loaded.module.head.weight)
    with torch.no_grad():
        loaded.module.head.bias[0] = 3.0
    for alphabet in ("ACGT", "auto"):
        made = generate(loaded, ["ACG"] * 4, n_tokens=60, seed=1, top_k=0, alphabet=alphabet, stop=[0])
        assert made.stopped == [0] * 4
        assert all(set(text) <= set("ACGT") and len(text) < 60 for text in made.sequences)
        assert made.left_out == [0] * 4  # what ends a sequence is not lost


@pytest.mark.parametrize("options", [{}, {"guide": lambda p, c: [len(t) for t in c], "chunk": 5}])
def test_tokens_that_are_no_text_are_counted(options):
    made = generate(LOADED, ["ACG", "TT"], n_tokens=40, seed=1, top_k=0, **options)
    assert sum(made.left_out) > 0
    for text, ids, lost in zip(made.sequences, made.token_ids, made.left_out, strict=True):
        assert len(text) + lost == len(ids) == 40
    assert generate(LOADED, ["ACG"], n_tokens=40, seed=1, alphabet="auto", **options).left_out == [0]


def test_a_stream_gives_the_tokens_of_generate_as_they_come():
    texts, options = ["ACG", "TTA", "C"], dict(temperature=0.8, top_k=0, alphabet="ACGT", stop="GA")
    whole = generate(LOADED, texts, n_tokens=12, seed=9, **options)
    before = LOADED.module.tokens
    iterator = stream(LOADED, texts, Sampling(12, **options), seed=9)
    first = next(iterator)
    assert LOADED.module.tokens - before <= 6  # the prompts of one length, and nothing else yet
    tokens = [first, *iterator]
    for row in range(3):
        own = [token for token in tokens if token.prompt == row]
        assert "".join(token.text for token in own) == whole.sequences[row]
        assert [token.log_prob for token in own] == pytest.approx(whole.logprobs[row].tolist(), abs=1e-5)
        assert own[-1].stopped == whole.stopped[row]


def test_equal_prompts_are_computed_once():
    before = LOADED.module.tokens
    generate(LOADED, ["ACGT" * 50] * 5, n_tokens=2, seed=1)
    assert LOADED.module.tokens - before == 200 + 5


def test_many_prompts_run_in_several_batches(monkeypatch):
    texts = [a + b for a in "ACGT" for b in "ACGT"]
    together = generate(LOADED, texts, n_tokens=4, seed=1)
    monkeypatch.setattr("nexvar.inference.generate.MOST_ROWS", 3)
    assert generate(LOADED, texts, n_tokens=4, seed=1).token_ids == together.token_ids


def test_a_batch_that_does_not_fit_is_halved_and_one_sequence_that_does_not_is_told(monkeypatch):
    loaded = tiny_loaded()
    whole, forward = generate(loaded, ["ACG", "ACT", "GGA"], n_tokens=4, seed=2), loaded.module.forward

    def small(ids_BL, **options):
        if len(ids_BL) > rows:
            raise torch.OutOfMemoryError("no")
        return forward(ids_BL, **options)

    monkeypatch.setattr(loaded.module, "forward", small)
    rows = 1
    assert generate(loaded, ["ACG", "ACT", "GGA"], n_tokens=4, seed=2).token_ids == whole.token_ids
    rows = 0
    with pytest.raises(NexVarError, match="7 tokens does not fit"):
        generate(loaded, ["ACG", "ACT"], n_tokens=4)
    with pytest.raises(NexVarError, match="do not fit"):
        list(stream(loaded, ["ACG", "ACT"], Sampling(4)))


# -- guidance


def gc(prompt: str, candidates: list[str]) -> list[float]:
    return [sum(letter in "GC" for letter in text) / len(text) for text in candidates]


def test_a_guide_moves_the_sequences_and_one_candidate_is_plain_sampling():
    options = dict(n_tokens=40, seed=4, top_k=0, alphabet="ACGT")
    plain = generate(LOADED, ["ACGT"], **options)
    guided = generate(LOADED, ["ACGT"], guide=gc, beam=3, branches=4, chunk=5, **options)
    assert gc("", guided.sequences)[0] > gc("", plain.sequences)[0] + 0.1
    assert guided.guide_scores == pytest.approx(gc("", guided.sequences))
    assert len(guided.sequences[0]) == 40
    scores = [score for _, score in guided.beams[0]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    low = generate(LOADED, ["ACGT"], guide=lambda p, texts: [-s for s in gc(p, texts)], chunk=5, **options)
    assert gc("", low.sequences)[0] < gc("", plain.sequences)[0]


@pytest.mark.parametrize("cached", [True, False])
def test_the_beams_are_what_the_model_says_of_them(cached):
    """The log-probabilities that come along are those of the beam's own text: branching mixes no rows up."""
    seen = []

    def guide(prompt, candidates):
        seen.append((prompt, list(candidates)))
        return [candidate.count("A") for candidate in candidates]

    out = generate(LOADED, ["ACGTT", "G"], n_tokens=11, seed=1, guide=guide, beam=2, branches=3, chunk=4, cached=cached,
                   alphabet="ACGT")  # fmt: skip
    for prompt, ids, logprobs in zip(["ACGTT", "G"], out.token_ids, out.logprobs, strict=True):
        prompt_ids = LOADED.tokenizer.encode(prompt).ids
        with torch.no_grad():
            logits = LOADED.module(torch.tensor([prompt_ids + ids])).logits[0, len(prompt_ids) - 1 : -1]
        expected = logits.log_softmax(-1)[torch.arange(11), torch.tensor(ids)]
        torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=1e-5)
    assert [len(candidates) for _, candidates in seen] == [3, 6, 6] * 2
    assert [len(candidates[0]) for _, candidates in seen] == [4, 8, 11] * 2
    assert {prompt for prompt, _ in seen} == {"ACGTT", "G"}
    best = max(seen[0][1], key=lambda text: text.count("A"))
    assert any(text.startswith(best) for text in seen[1][1])


def test_guided_prompts_do_not_depend_on_each_other():
    options = dict(n_tokens=12, seed=6, guide=gc, chunk=4, alphabet="ACGT")
    together = generate(LOADED, ["ACG", "TTAC"], **options)
    alone = [generate(LOADED, [text], **options).sequences[0] for text in ("ACG", "TTAC")]
    assert together.sequences == alone


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prompts": ["ACGU"]}, "write T for U"),
        ({"prompts": ["ACGR"]}, "write N"),
        ({"prompts": ["MKVLEER"]}, "protein"),
        ({"prompts": ["AC\nGT"]}, "white space"),
        ({"prompts": ["|D__BACTÉRIA|ACG"]}, "position 9"),
        ({"prompts": [5]}, "prompt_seqs[0]"),
        ({"stop": ""}, "stop"),
        ({"stop": [512]}, "512 is no token"),
        ({"stop": -1}, "-1 is no token"),
        ({"alphabet": ""}, "alphabet"),
        ({"alphabet": "ACGÜ"}, "alphabet: 'Ü' is no token"),
        ({"seed": -1}, "seed"),
        ({"guide": lambda p, c: [1.0]}, "one number for each"),
        ({"guide": lambda p, c: [float("nan")] * len(c)}, "no number"),
        ({"guide": gc, "beam": 0}, "beam"),
        ({"guide": gc, "stop": "A"}, "stop"),
    ],
)
def test_more_bad_input(options, says):
    with pytest.raises(NexVarError) as error:
        generate(LOADED, options.pop("prompts", ["ACGT"]), **{"n_tokens": 5, **options})
    assert says in str(error.value)


def test_tags_and_punctuation_are_tokens_of_byte_models_and_lower_case_is_not():
    tag = "|D__BACTERIA;S__ESCHERICHIA COLI|"
    options = dict(n_tokens=6, seed=1)
    lower, upper, bare = (generate(LOADED, [p], **options).token_ids for p in (tag + "acgt", tag + "ACGT", "ACGT"))
    assert lower == upper != bare
    assert generate(LOADED, ["ATG..."], n_tokens=2).sequences


# -- real caches


@pytest.fixture(scope="module", params=["sh1_a", "sh2_a", "genos_tiny", "hyenadna_tiny"])
def real(request):
    return load(GOLDEN / request.param, dtype="float32", device="cpu")


@pytest.mark.parametrize("options", [{"stop": "CA"}, {"guide": gc, "beam": 2, "branches": 2, "chunk": 3}])
def test_every_familys_cache_branches_and_shrinks(real, options):
    """Rows that stop leave the batch, beams branch: with the cache as without, together as alone."""
    texts = ["ACGTTGCAACGGT", "GGCATTGACCATG", "TTGA"]
    options = dict(n_tokens=9, seed=3, top_k=0, alphabet="ACGT", **options)
    cached = generate(real, texts, **options)
    uncached = generate(real, texts, cached=False, **options)
    assert cached.token_ids == uncached.token_ids
    for i, text in enumerate(texts):
        alone = generate(real, [text], **options)
        assert alone.token_ids[0] == cached.token_ids[i]
        torch.testing.assert_close(alone.logprobs[0], cached.logprobs[i], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(uncached.logprobs[i], cached.logprobs[i], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("work", "dtype", "inside"),
    [(threads.ONE_THREAD, torch.float32, 1), (threads.ONE_THREAD + 1, torch.float32, 2), (1, torch.bfloat16, 2)],
)
def test_a_small_step_takes_one_thread_and_gives_the_others_back(work, dtype, inside):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads.threads_for(work, dtype):
            assert torch.get_num_threads() == inside
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
