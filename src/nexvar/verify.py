"""Is this the right checkpoint, and does this installation compute what its authors computed?

    source ── files: size and sha256 ── load: names, shapes, finite values ── forward, cache
           ── every value that the card records of the real checkpoint, each compared

One ``Check`` a step, as it is found. Recorded values (``Card.oracles``; TOML beside the card, JSON in cards/oracles):

    cases        mean of the last hidden state, hidden states, logits, probabilities at a masked base
    prompts_csv  loss and accuracy on four sequences, as Evo 2's test_evo2.py computes them
    generation_identity  greedy continuation of the same sequences, as test_evo2_generation.py does
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar import cards
from nexvar.cards import Card, File
from nexvar.errors import NexVarError
from nexvar.inference.generate import generate
from nexvar.models import block_taps
from nexvar.weights import checkpoint, hub
from nexvar.weights.load import Loaded, as_folder, load

# 128 bases: some families need a multiple of it
BASES = "ACGTTGCAAGCTCTAGGACTTACGGATCCATGAACGTCCATTTGCGAGTACCTTAGGCATCGAC" * 2
ACCURACY_TOLERANCE = 0.2  # percentage points: bfloat16 flips near ties; the official tests compare the loss only
GENERATED = 500
DESCRIBES = ("what", "source", "dtype", "absolute", "relative")


@dataclass(frozen=True)
class Check:
    """One line: what was checked, ``outcome`` ("ok", "FAIL" or "skipped"), and the numbers or the reason."""

    name: str
    outcome: str
    detail: str

    def __str__(self) -> str:
        return f"{self.outcome:8}{self.name}: {self.detail}"


def verify(
    source: str | Path, *, device: str = "auto", dtype: str = "auto", quick: bool = False, revision: str | None = None
) -> Iterator[Check]:
    """Check a card's checkpoint (downloaded first where needed) or a folder; checks come as they are made.

    dtype: "auto" is that of the recorded values. quick: leave out the greedy continuation (2,000 tokens).
    A folder whose weight files have the checksums of a card is that card's checkpoint: its values are compared too.
    Raises NexVarError where there is nothing to check: an unknown name, no such folder.
    """
    folder = as_folder(source)
    card = None if folder is not None else cards.get(str(source))
    try:
        if folder is not None:
            card = yield from _folder_files(folder)
        elif card is not None:
            yield from _card_files(card, revision)
        loaded = load(source, device=device, dtype=dtype, revision=revision)
        oracles = recorded(card or loaded.card)
        wanted = oracles.get("dtype", "auto") if dtype == "auto" else dtype
        if wanted != "auto" and str(loaded.dtype) != f"torch.{wanted}":
            loaded = load(source, device=device, dtype=wanted, revision=revision)
    except NexVarError as error:
        yield Check("load", "FAIL", str(error))
        return
    yield from _contents(loaded, card)
    yield from _computes(loaded)
    yield from _recorded(loaded, oracles, quick)


# -- files


def _card_files(card: Card, revision: str | None) -> Iterator[Check]:
    if card.weights is not None:
        yield Check("files", "skipped", f"{card.weights} ships with the package")
        return
    folder = hub.fetch(card, revision)  # checks sizes, and checksums that it has not checked before
    if not card.files or (revision not in (None, card.revision)):
        yield Check("files", "skipped", "the card knows no checksums of this revision")
        return
    for file in card.files:
        yield _check_file(file, folder / file.name)


def _check_file(file: File, path: Path) -> Check:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return Check(file.name, "FAIL", f"{size:,} bytes, the card says {file.size:,}")
    if file.sha256 is None:
        return Check(file.name, "skipped", "no published checksum" + (f"; {size:,} bytes, right" if file.size else ""))
    found = hub.sha256(path)
    same = found == file.sha256
    detail = f"sha256 {found[:12]}…" + ("" if same else f", the card says {file.sha256[:12]}…")
    return Check(file.name, "ok" if same else "FAIL", detail)


def _folder_files(folder: Path) -> Generator[Check, None, Card | None]:
    """Checks of a folder's weight files; returns the card whose files they are, if any."""
    owners: dict[str, Card] = {f.sha256: c for c in cards.all_cards().values() for f in c.files if f.sha256}
    found: list[Card | None] = []
    for path in itertools.chain.from_iterable(checkpoint.find_weights(folder)):
        digest = hub.sha256(path)
        owner = owners.get(digest)
        found.append(owner)
        known = f"is {owner.name}'s" if owner else "is no released file that the cards list"
        yield Check(path.name, "ok" if owner else "skipped", f"sha256 {digest[:12]}… {known}")
    return found[0] if found and all(card is found[0] for card in found) else None


# -- the model


def _contents(loaded: Loaded, card: Card | None) -> Iterator[Check]:
    module = loaded.module
    count = len(module.state_dict())
    yield Check("tensors", "ok", f"{count:,} tensors have the names and shapes of the config, every value is finite")
    if card is not None:
        numbers = parameter_count(module)
        same = numbers == card.parameters
        detail = f"{numbers:,}" + ("" if same else f", the card says {card.parameters:,}")
        yield Check("parameters", "ok" if same else "FAIL", detail)
    text = loaded.tokenizer.detokenize(loaded.tokenizer.tokenize("ACGTACGTACGT"))
    letters = "".join(c for c in text if c in "ACGT")
    yield Check("tokenizer", "ok" if "ACGT" in letters else "FAIL", f"ACGTACGTACGT reads back as {text[:40]!r}")


def parameter_count(module: Any) -> int:
    """Floating-point numbers of the checkpoint: tied ones once, FP8 scales not."""
    persistent = set(module.state_dict())
    tensors = {id(p): p for p in module.parameters() if p.is_floating_point()}
    for name, buffer in module.named_buffers():
        if name in persistent and buffer.is_floating_point() and not name.endswith("fp8_scale"):
            tensors[id(buffer)] = buffer
    return sum(t.numel() for t in tensors.values())


@torch.no_grad()
def _computes(loaded: Loaded) -> Iterator[Check]:
    """A forward, and for causal models the same forward in two pieces."""
    ids_BL = _ids(loaded, BASES, special=False)
    logits = loaded.module(ids_BL).logits.float()
    finite = bool(torch.isfinite(logits).all())
    yield Check("forward", "ok" if finite else "FAIL", f"logits {tuple(logits.shape)}" + (", finite" * finite))
    if loaded.card.objective != "causal":
        return
    cache = loaded.module.new_cache(1, ids_BL.shape[1])
    pieces = [loaded.module(piece, cache=cache).logits.float() for piece in ids_BL.split([50, ids_BL.shape[1] - 50], 1)]
    worst = float((torch.cat(pieces, 1) - logits).abs().max())
    limit = 1e-3 if loaded.dtype == torch.float32 else 0.05
    limit *= max(1.0, float(logits.abs().max()))
    detail = f"in pieces as in one: {worst:.1e} apart, {limit:.1e} allowed"
    yield Check("cache", "ok" if worst <= limit else "FAIL", detail)


# -- recorded values


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


def _recorded(loaded: Loaded, oracles: dict[str, Any], quick: bool) -> Iterator[Check]:
    kinds = [kind for kind in oracles if kind not in DESCRIBES]
    if not kinds:
        yield Check("recorded values", "skipped", "the card has none")
    for kind in kinds:
        value = oracles[kind]
        try:
            if kind == "cases":
                for number, case in enumerate(value, start=1):
                    yield from _case(loaded, case, oracles, f"case {number}")
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


@torch.no_grad()
def _case(loaded: Loaded, case: dict[str, Any], tolerance: dict[str, Any], name: str) -> Iterator[Check]:
    """One recorded input: its tokens, then every value recorded for it."""
    absolute, relative = float(tolerance["absolute"]), float(tolerance.get("relative", 0.0))

    def compare(what: str, ours: Tensor, theirs: Any) -> Check:
        expected = torch.tensor(theirs, dtype=torch.float64)
        ours = ours.double().cpu()
        if ours.shape != expected.shape:
            return Check(f"{name}, {what}", "FAIL", f"shape {tuple(ours.shape)}, recorded {tuple(expected.shape)}")
        apart = (ours - expected).abs().nan_to_num(nan=float("inf"))
        good = bool((apart <= absolute + relative * expected.abs()).all())
        detail = f"{expected.numel():,} values, at most {float(apart.max()):.1e} apart, {absolute:g} allowed"
        return Check(f"{name}, {what}", "ok" if good else "FAIL", detail + (f" + {relative:.0%}" if relative else ""))

    # the official tokenizer of some families adds [CLS] and [SEP], which the recorded run left out
    ways = [loaded.tokenizer.encode(case["text"], special=s).ids for s in (loaded.card.special_tokens, True, False)]
    given = case.get("input_ids", ways[0])
    if "input_ids" in case:
        same = given in ways
        detail = f"{given[:8]}" if same else f"{ways[0][:8]}, recorded {given[:8]}"
        yield Check(f"{name}, tokens", "ok" if same else "FAIL", detail)
    ids_BL = torch.tensor([given], device=loaded.device)
    module = loaded.module
    if "mean" in case:
        hidden_BLD = module(ids_BL, taps=(module.last_hidden,), logits=False).taps[module.last_hidden]
        yield compare("mean hidden state", hidden_BLD[0].float().mean(0), case["mean"])
    if "hidden_states" in case:
        first = [name for name in module.tap_names if "embed" in name][:1]
        taps = [*first, *block_taps(module.tap_names)[:-1], module.last_hidden]
        got = module(ids_BL, taps=taps, logits=False).taps
        width = len(case["hidden_states"][0])
        yield compare("hidden states", torch.stack([got[t][0, 0, :width] for t in taps]), case["hidden_states"])
    if "logits" in case:
        rows = len(case["logits"])
        yield compare("first logits", module(ids_BL).logits[0, :rows], case["logits"])
    if "probabilities" in case:
        bases, masked = loaded.tokenizer.base_ids() or {}, case["masked"]
        ids_BL[0, masked] = loaded.tokenizer.mask_id  # type: ignore[assignment]  # masked models have one
        scores = module(ids_BL).logits[0, masked, [bases[b] for b in case["probabilities"]]]
        yield compare(f"probabilities at {masked}", scores.double().softmax(-1), list(case["probabilities"].values()))


def prompts() -> list[str]:
    """The four sequences of Evo 2's prompts.csv (ArcInstitute/evo2, Apache-2.0)."""
    text = resources.files("nexvar.cards").joinpath("oracles/prompts.csv").read_text(encoding="utf-8")
    return [row[0] for row in csv.reader(text.splitlines()[1:])]


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
        ids_BL = _ids(loaded, sequence, special=False)
        logits, targets = loaded.module(ids_BL).logits[0, :-1], ids_BL[0, 1:]
        chosen = logits.float().log_softmax(-1).gather(-1, targets[:, None])
        exact.append(-float(chosen.double().mean()))
        halves = logits.bfloat16().float().log_softmax(-1).bfloat16().gather(-1, targets[:, None])
        losses.append(-float(halves.float().mean().bfloat16()))
        accuracies.append(100 * float((logits.argmax(-1) == targets).double().mean()))
    n = len(losses)
    return PromptScore(sum(losses) / n, sum(exact) / n, sum(accuracies) / n)


def _prompts(loaded: Loaded, value: dict[str, float]) -> Iterator[Check]:
    found = score_prompts(loaded, prompts())
    for name, got, tolerance, more in (
        ("loss", found.loss, value["tolerance"], f" ({found.exact_loss:.4f} unrounded)"),
        ("accuracy", found.accuracy, value.get("accuracy_tolerance", ACCURACY_TOLERANCE), ""),
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
    found = generate(loaded, beginnings, n_tokens=n_tokens, top_k=1).sequences
    return [
        100 * sum(a == b for a, b in zip(made, sequence[start : start + n_tokens], strict=False)) / n_tokens
        for made, sequence, start in zip(found, sequences, starts, strict=True)
    ]


def _identity(loaded: Loaded, value: dict[str, float]) -> Check:
    each = generation_identity(loaded, prompts())
    mean = sum(each) / len(each)
    detail = f"{mean:.2f} % ({', '.join(f'{x:.1f}' for x in each)}), recorded {value['percent']} ± {value['tolerance']}"
    return Check("generation identity", "ok" if abs(mean - value["percent"]) <= value["tolerance"] else "FAIL", detail)


def _ids(loaded: Loaded, sequence: str, *, special: bool) -> Tensor:
    return torch.tensor([loaded.tokenizer.encode(sequence, special=special).ids], device=loaded.device)
