"""Values that others computed with a released checkpoint, and what this installation computes in their place.

    card ── recorded ── kinds ── each computed and compared ── one Check a value

They stand in a card's ``[oracles]`` (TOML) and in cards/oracles (JSON). Kinds:

    cases        one input each, with any of the keys of ``COMPARED`` and its tokens (input_ids)
    prompts_csv  loss and accuracy on four sequences, as Evo 2's test_evo2.py computes them
    generation_identity  greedy continuation of the same sequences, as test_evo2_generation.py does

``DESCRIBES`` says of all of them, or of one case, where they come from, in which precision they were computed, of which
revision they are (none: the card's), and how far apart is still equal.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from nexvar.cards import Card
from nexvar.errors import NexVarError
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.generate import generate
from nexvar.inference.score import score_sequences
from nexvar.models import block_taps
from nexvar.weights.load import Loaded

ACCURACY_TOLERANCE = 0.2  # percentage points: bfloat16 flips near ties; the official tests compare the loss only
GENERATED = 500
DESCRIBES = ("what", "source", "dtype", "revision", "absolute", "relative")


@dataclass(frozen=True)
class Check:
    """One line: what was checked, ``outcome`` ("ok", "FAIL" or "skipped"), and the numbers or the reason."""

    name: str
    outcome: str
    detail: str

    def __str__(self) -> str:
        return f"{self.outcome:8}{self.name}: {self.detail}"


def recorded(card: Card) -> dict[str, Any]:
    """The card's oracles, those of its JSON file included."""
    if not isinstance(card.oracles, dict):
        raise NexVarError("its recorded values are not a table", where=card.name)
    oracles = dict(card.oracles)
    name = oracles.pop("file", None)
    if name is not None:
        if (card.repo is None and card.weights is None) or ".." in str(name):
            raise NexVarError(f"only shipped cards have oracle files, not {name!r}", where=card.name)
        text = resources.files("nexvar.cards").joinpath(name).read_text(encoding="utf-8")
        oracles |= json.loads(text)
    return oracles


def compare(loaded: Loaded, card: Card, *, revision: str | None = None, quick: bool = False) -> Iterator[Check]:
    """Every value recorded of the card's checkpoint against what ``loaded`` gives.

    revision: what was loaded, where it is not the card's own; values of another one are left out, as are those of
    another precision. quick: without the greedy continuation.
    """
    oracles = recorded(card)
    described = {key: value for key, value in oracles.items() if key in DESCRIBES}
    kinds = [kind for kind in oracles if kind not in DESCRIBES]
    if not kinds:
        yield Check("recorded values", "skipped", "the card has none")
    for kind in kinds:
        value = oracles[kind]
        try:
            if kind == "cases":
                for number, case in enumerate(value, start=1):
                    whole = {**described, **case}
                    if reason := _other_run(loaded, card, whole, revision):
                        yield Check(f"case {number}", "skipped", reason)
                    else:
                        yield from case_checks(loaded, whole, f"case {number}")
            elif reason := _other_run(loaded, card, described, revision):
                yield Check(kind, "skipped", reason)
            elif kind == "prompts_csv":
                yield from _prompts(loaded, value)
            elif kind == "generation_identity" and quick:
                yield Check(kind, "skipped", "takes 2,000 tokens; run without --quick")
            elif kind == "generation_identity":
                yield _identity(loaded, value)
            else:
                yield Check(kind, "skipped", f"{value}: needs data that does not ship with the package")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, NexVarError) as error:
            yield Check(kind, "FAIL", f"the recorded value cannot be used ({error!r})")


def _other_run(loaded: Loaded, card: Card, described: dict[str, Any], revision: str | None) -> str | None:
    """Why these values say nothing of this model: another revision, or another precision; None if they do."""
    of = described.get("revision", card.revision)
    if of != (revision or card.revision):
        return f"of revision {of}; to compare it: `nexvar verify {card.name} --revision {of}`"
    dtype, ours = described.get("dtype"), str(loaded.dtype).removeprefix("torch.")
    return f"computed in {dtype}, this model in {ours}" if dtype not in (None, ours) else None


# -- one input ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def case_checks(loaded: Loaded, case: dict[str, Any], name: str) -> Iterator[Check]:
    """One recorded input: its tokens, then every value recorded for it."""
    values = [key for key in COMPARED if key in case]
    if unknown := set(case) - {*COMPARED, *DESCRIBES, "text", "input_ids", "masked"}:
        raise NexVarError(f"no kind of value {sorted(unknown)[0]!r}", where=name)
    # the official tokenizer of some families adds [CLS] and [SEP], which the recorded run left out
    ways = [loaded.tokenizer.encode(case["text"], special=s).ids for s in (loaded.card.special_tokens, True, False)]
    given = case.get("input_ids", ways[0])
    if "input_ids" in case:
        same = given in ways
        detail = f"{given[:8]}" if same else f"{ways[0][:8]}, recorded {given[:8]}"
        yield Check(f"{name}, tokens", "ok" if same else "FAIL", detail)
    elif not values:
        raise NexVarError("nothing is recorded", where=name)
    for key in values:
        what, ours, theirs = COMPARED[key](loaded, torch.tensor([given], device=loaded.device), case)
        yield _close(f"{name}, {what}", ours, theirs, case)


def _close(name: str, ours: Tensor, theirs: Any, case: dict[str, Any]) -> Check:
    absolute, relative = float(case["absolute"]), float(case.get("relative", 0.0))
    expected, ours = torch.tensor(theirs, dtype=torch.float64), ours.double().cpu()
    if ours.shape != expected.shape:
        return Check(name, "FAIL", f"shape {tuple(ours.shape)}, recorded {tuple(expected.shape)}")
    apart = (ours - expected).abs().nan_to_num(nan=float("inf"))
    good = bool((apart <= absolute + relative * expected.abs()).all())
    allowed = f"{absolute:g} allowed" + (f" + {relative:.0%}" if relative else "")
    computed = f" (computed in {case['dtype']})" if "dtype" in case else ""
    detail = f"{expected.numel():,} values, at most {float(apart.max()):.1e} apart, {allowed}{computed}"
    return Check(name, "ok" if good else "FAIL", detail)


Compared = tuple[str, Tensor, Any]  # what it is called, ours, theirs


def _mean(loaded: Loaded, ids_1L: Tensor, case: dict[str, Any]) -> Compared:
    module = loaded.module
    hidden_1LD = module(ids_1L, taps=(module.last_hidden,), logits=False).taps[module.last_hidden]
    return "mean hidden state", hidden_1LD[0].float().mean(0), case["mean"]


def _hidden_states(loaded: Loaded, ids_1L: Tensor, case: dict[str, Any]) -> Compared:
    """The first values at the first token: the embedding, the blocks but the last, the final hidden state."""
    module, theirs = loaded.module, case["hidden_states"]
    first = [name for name in module.tap_names if "embed" in name][:1]
    taps = [*first, *block_taps(module.tap_names)[:-1], module.last_hidden]
    got = module(ids_1L, taps=taps, logits=False).taps
    return "hidden states", torch.stack([got[t][0, 0, : len(theirs[0])] for t in taps]), theirs


def _logits(loaded: Loaded, ids_1L: Tensor, case: dict[str, Any]) -> Compared:
    """Of the first tokens."""
    return "first logits", loaded.module(ids_1L).logits[0, : len(case["logits"])], case["logits"]


def _masked_probabilities(loaded: Loaded, ids_1L: Tensor, case: dict[str, Any]) -> Compared:
    """Softmax over the bases that are named, at a masked one (index from 0)."""
    bases, masked, theirs = loaded.tokenizer.base_ids() or {}, case["masked"], case["probabilities"]
    ids_1L[0, masked] = loaded.tokenizer.mask_id  # type: ignore[assignment]  # masked models have one
    scores = loaded.module(ids_1L).logits[0, masked, [bases[b] for b in theirs]]
    return f"probabilities at {masked}", scores.double().softmax(-1), list(theirs.values())


def _token_probabilities(loaded: Loaded, ids_1L: Tensor, case: dict[str, Any]) -> Compared:
    """Softmax over the whole vocabulary where nothing is masked: {token, counted from 0 without special ones: {text:
    p}}."""
    tokenizer, theirs = loaded.tokenizer, case["token_probabilities"]
    own = [i for i, id_ in enumerate(ids_1L[0].tolist()) if id_ not in tokenizer.special_ids]
    p_LV = loaded.module(ids_1L).logits[0].double().softmax(-1)
    ours = [
        float(p_LV[own[int(place)], tokenizer.encode(text, special=False).ids[0]])
        for place, texts in theirs.items()
        for text in texts
    ]
    return "probabilities of tokens", torch.tensor(ours), [p for texts in theirs.values() for p in texts.values()]


def _log_probs(loaded: Loaded, ids_1L: Tensor, case: dict[str, Any]) -> Compared:
    """Natural logarithm, of every token but the first, given those before it; no special token."""
    log_probs = loaded.module(ids_1L).logits[0, :-1].float().log_softmax(-1)
    return "log-probabilities", log_probs.gather(-1, ids_1L[0, 1:, None])[:, 0], case["log_probs"]


def _mean_log_prob(loaded: Loaded, ids_1L: Tensor, case: dict[str, Any]) -> Compared:
    """What ``score_sequences`` gives a user: the mean of the above, after the card's begin token if it has one."""
    ours = score_sequences(loaded, [case["text"]])
    return "score_sequences", torch.tensor(ours, dtype=torch.float64), [case["mean_log_prob"]]


COMPARED: dict[str, Callable[[Loaded, Tensor, dict[str, Any]], Compared]] = {
    "mean": _mean,
    "hidden_states": _hidden_states,
    "logits": _logits,
    "probabilities": _masked_probabilities,
    "token_probabilities": _token_probabilities,
    "log_probs": _log_probs,
    "mean_log_prob": _mean_log_prob,
}


# -- four sequences -----------------------------------------------------------------------------------------------


def prompts() -> list[str]:
    """The four sequences of Evo 2's prompts.csv (ArcInstitute/evo2, Apache-2.0)."""
    text = resources.files("nexvar.cards").joinpath("oracles/prompts.csv").read_text(encoding="utf-8")
    return [row[0] for row in csv.reader(text.splitlines()[1:])]


def plain_ids(loaded: Loaded, sequence: str) -> Tensor:
    """(1, L) token ids without special ones, on the model's device."""
    return torch.tensor([loaded.tokenizer.encode(sequence, special=False).ids], device=loaded.device)


@dataclass(frozen=True)
class PromptScore:
    """loss: natural log per token, rounded as the official test's bfloat16 arithmetic does; exact_loss: in float32 of
    the same logits. accuracy: percent of tokens that are the most likely one. Means over the sequences."""

    loss: float
    exact_loss: float
    accuracy: float


@torch.inference_mode()
def score_prompts(loaded: Loaded, sequences: Sequence[str]) -> PromptScore:
    """Loss and accuracy of next-token prediction, sequence by sequence, each from its second token on.

    NOTE: the published losses were computed on bfloat16 logits by ``F.cross_entropy``, whose result is bfloat16 too:
    steps of 0.002 at 0.3, larger than the tolerance of 0.001. So the same roundings are made here.
    """
    losses, exact, accuracies = [], [], []
    for sequence in sequences:
        ids_BL = plain_ids(loaded, sequence)
        logits, targets = loaded.module(ids_BL).logits[0, :-1], ids_BL[0, 1:]
        chosen = logits.float().log_softmax(-1).gather(-1, targets[:, None])
        exact.append(-float(chosen.double().mean()))
        halves = logits.bfloat16().float().log_softmax(-1).bfloat16().gather(-1, targets[:, None])
        losses.append(-float(halves.float().mean().bfloat16()))
        accuracies.append(100 * float((logits.argmax(-1) == targets).double().mean()))
    n = len(losses)
    return PromptScore(sum(losses) / n, sum(exact) / n, sum(accuracies) / n)


def _prompts(loaded: Loaded, value: dict[str, float]) -> Iterator[Check]:
    score = score_prompts(loaded, prompts())
    for name, got, tolerance, more in (
        ("loss", score.loss, value["tolerance"], f" ({score.exact_loss:.4f} unrounded)"),
        ("accuracy", score.accuracy, value.get("accuracy_tolerance", ACCURACY_TOLERANCE), ""),
    ):
        good = abs(got - value[name]) <= tolerance
        detail = f"{got:.4f}{more}, recorded {value[name]:.4f}, {tolerance:g} allowed"
        yield Check(f"prompts.csv {name}", "ok" if good else "FAIL", detail)


def generation_identity(loaded: Loaded, sequences: Sequence[str], n_tokens: int = GENERATED) -> list[float]:
    """Percent of ``n_tokens`` greedy tokens that are the true continuation, for each sequence.

    The prompt is the first half, cut to an even length: ``2 * (len // 4)`` bases, as in test_evo2_generation.py.
    """
    starts = [2 * (len(sequence) // 4) for sequence in sequences]
    beginnings = [sequence[:start] for sequence, start in zip(sequences, starts, strict=True)]
    made = generate(loaded, beginnings, Sampling(n_tokens, top_k=1)).token_ids
    texts = [[loaded.tokenizer.detokenize([id_]) for id_ in ids] for ids in made]  # one that is no text keeps its place
    return [
        100 * sum(a == b for a, b in zip(text, sequence[start : start + n_tokens], strict=False)) / n_tokens
        for text, sequence, start in zip(texts, sequences, starts, strict=True)
    ]


def _identity(loaded: Loaded, value: dict[str, float]) -> Check:
    each = generation_identity(loaded, prompts())
    mean = sum(each) / len(each)
    detail = f"{mean:.2f} % ({', '.join(f'{x:.1f}' for x in each)}), recorded {value['percent']} ± {value['tolerance']}"
    return Check("generation identity", "ok" if abs(mean - value["percent"]) <= value["tolerance"] else "FAIL", detail)
