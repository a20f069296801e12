"""Does a package's model keep the contract? ``python -m nexvar.evals.contract PACKAGE``: one line a check, exit code 1.

For the package of an entry point ``nexvar.models`` or ``nexvar.cards`` (CONTRIBUTING.md). Every card is built and
counted; then every architecture runs: the smallest card with weights beside it, else the smallest with fresh weights.
The same checks hold NexVar's own architectures, in tests/models/test_every_model.py.
"""

from __future__ import annotations

from nexvar import doors

if __name__ == "__main__":
    doors.catch_signals()

import argparse
import fnmatch
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nexvar import cards, models, plugins, tokenizers
from nexvar.cards import Card
from nexvar.errors import NexVarError
from nexvar.genome.reference import reverse_complement
from nexvar.inference import scorers
from nexvar.train.init import fresh
from nexvar.verify import parameter_count
from nexvar.weights import footprint
from nexvar.weights.assemble import build, make_config
from nexvar.weights.load import Loaded, load

BASES = "".join(random.Random(3).choices("ACGT", k=600))
LARGEST = 200_000_000  # parameters of a model that is run with fresh weights


@dataclass(frozen=True)
class Result:
    """One check. outcome: ok, FAIL or skipped."""

    subject: str
    name: str
    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:8}{self.subject}: {self.name}" + (f": {self.detail}" if self.detail else "")


class Broken(AssertionError):
    """A promise that is not kept, in a line."""


class Inapplicable(Exception):
    """Why a check says nothing of this model."""


def same(ours: Tensor, theirs: Tensor, what: str, tolerance: float = 5e-4) -> None:
    """Broken unless two tensors agree to ``tolerance`` (absolute, plus 1e-4 of the value)."""
    if ours.shape != theirs.shape:
        raise Broken(f"{what}: shape {tuple(ours.shape)}, not {tuple(theirs.shape)}")
    over = (ours - theirs).abs() - 1e-4 * theirs.abs()
    if not bool((over <= tolerance).all()):
        raise Broken(f"{what}: off by {float((ours - theirs).abs().max()):.3g}")


def ids_of(loaded: Loaded, length: int, start: int = 0) -> Tensor:
    """(1, L) tokens of random bases, without special ones."""
    return torch.tensor([loaded.tokenizer.encode(BASES[start : start + length], special=False).ids])


def answer(loaded: Loaded, ids_BL: Tensor | None = None, **inputs: Any) -> Tensor:
    """(B, L, ·): the logits of every token; of a model without a language-model head, the final hidden states."""
    if loaded.module.has_head:
        logits: Tensor = loaded.module(ids_BL, **inputs).logits
        return logits
    tap = loaded.module.last_hidden
    hidden: Tensor = loaded.module(ids_BL, taps=(tap,), logits=False, **inputs).taps[tap]
    return hidden


# -- what a model must do; each raises Broken or Inapplicable


@torch.no_grad()
def taps(loaded: Loaded) -> None:
    """every tap is given, finite, as long as it says; an unknown one names the nearest"""
    module, ids = loaded.module, ids_of(loaded, 128)
    if module.last_hidden not in module.tap_names:
        raise Broken(f"last_hidden {module.last_hidden!r} is not among tap_names")
    out = module(ids, taps=module.tap_names, logits=False)
    if out.logits is not None:
        raise Broken("logits=False gives logits")
    if set(out.taps) != set(module.tap_names):
        raise Broken(f"given and asked for differ by {sorted(set(out.taps) ^ set(module.tap_names))[:3]}")
    for name, value in out.taps.items():
        if not bool(torch.isfinite(value).all()):
            raise Broken(f"{name} holds values that are not finite")
        length = -(-ids.shape[1] // module.tap_stride.get(name, 1))
        if value.ndim != 3 or value.shape[:2] != (1, length):
            raise Broken(f"{name} has shape {tuple(value.shape)}, not (1, {length}, D)")
    if out.taps[module.last_hidden].shape[2] != module.config.width:
        raise Broken(f"last_hidden is {out.taps[module.last_hidden].shape[2]} wide, Config.width {module.config.width}")
    try:
        module(ids, taps=("blocks.no_such",))
    except NexVarError as error:
        if "did you mean" in str(error):
            return
    raise Broken("an unknown tap raises no NexVarError of models.check_taps")


@torch.no_grad()
def logits(loaded: Loaded) -> None:
    """logits are (B, L, Config.vocabulary) and finite; a slice of them is that slice"""
    if not loaded.module.has_head:
        raise Inapplicable("it has no language-model head")
    ids = ids_of(loaded, 128)
    whole = loaded.module(ids).logits
    wanted = (*ids.shape, loaded.module.config.vocabulary)
    if tuple(whole.shape) != wanted or not bool(torch.isfinite(whole).all()):
        raise Broken(f"shape {tuple(whole.shape)}, not {wanted}, or values that are not finite")
    same(loaded.module(ids, logits=slice(-2, None)).logits, whole[:, -2:], "logits=slice(-2, None)", 1e-4)


@torch.no_grad()
def batches(loaded: Loaded) -> None:
    """a row of a batch gives what it gives alone"""
    rows = [ids_of(loaded, 96, start) for start in (0, 100, 200)]
    length = min(row.shape[1] for row in rows)
    rows = [row[:, :length] for row in rows]
    together = answer(loaded, torch.cat(rows))
    for i, row in enumerate(rows):
        same(together[i : i + 1], answer(loaded, row), f"row {i}")


@torch.no_grad()
def padding(loaded: Loaded) -> None:
    """padding on the right, with its mask, changes no real token"""
    if not loaded.module.pads_safely:
        raise Inapplicable("pads_safely is False")
    ids = ids_of(loaded, 96)
    padded = torch.cat([ids, torch.full((1, 32), loaded.tokenizer.pad_id)], 1)
    mask = torch.arange(padded.shape[1])[None] < ids.shape[1]
    alone = answer(loaded, ids, mask_BL=torch.ones_like(ids, dtype=torch.bool))
    same(answer(loaded, padded, mask_BL=mask)[:, : ids.shape[1]], alone, "beside padding", 2e-4)
    if loaded.module.causal:
        same(answer(loaded, padded)[:, : ids.shape[1]], alone, "beside padding, without a mask", 2e-4)


@torch.no_grad()
def masks(loaded: Loaded) -> None:
    """a mask of only real tokens is no mask"""
    ids = ids_of(loaded, 96)
    masked = answer(loaded, ids, mask_BL=torch.ones_like(ids, dtype=torch.bool))
    same(masked, answer(loaded, ids), "an all-True mask", 1e-4)


@torch.no_grad()
def elements(loaded: Loaded) -> None:
    """the elements it annotates are (B, bases, elements, 2), finite, and of a row what they are alone"""
    module, count = loaded.module, len(loaded.module.elements)
    if not count:
        raise Inapplicable("it annotates nothing")
    bases = (BASES * 8)[: -(-128 // module.element_unit) * module.element_unit]
    texts = (bases, reverse_complement(bases))
    rows = [loaded.tokenizer.encode(text, special=loaded.card.special_tokens).ids for text in texts]
    together = module.element_logits(torch.tensor(rows))
    if together.ndim != 4 or tuple(together.shape[2:]) != (count, 2) or not 0 < together.shape[1] <= len(bases):
        raise Broken(f"shape {tuple(together.shape)} of {count} elements and {len(bases)} bases")
    if not bool(torch.isfinite(together).all()):
        raise Broken("values that are not finite")
    for i, row in enumerate(rows):
        same(together[i : i + 1], module.element_logits(torch.tensor([row])), f"row {i}")


def gradients(loaded: Loaded) -> None:
    """gradients reach more than half of the parameters"""
    module = loaded.module
    with torch.enable_grad():
        answer(loaded, ids_of(loaded, 128)).float().logsumexp(-1).sum().backward()
    reached = [n for n, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    module.zero_grad(set_to_none=True)
    count = len(list(module.parameters()))
    if len(reached) <= 0.5 * count:
        raise Broken(f"{len(reached)} of {count}")


def embeddings(loaded: Loaded) -> None:
    """the ids' embeddings may stand in their place, with or without ids and mask, and get gradients"""
    module, ids = loaded.module, ids_of(loaded, 96)
    if not module.token_embedding:
        raise Inapplicable("token_embedding is not set: as_hf() takes no inputs_embeds, nor do attributions")
    with torch.no_grad():
        embeds = module.input_embeddings(ids)
        whole = answer(loaded, ids)
        same(answer(loaded, embeds_BLD=embeds), whole, "embeds_BLD alone", 1e-5)
        same(answer(loaded, ids, embeds_BLD=embeds), whole, "embeds_BLD beside ids", 1e-5)
        real = torch.ones_like(ids, dtype=torch.bool)
        same(answer(loaded, embeds_BLD=embeds, mask_BL=real), whole, "embeds_BLD and a mask", 1e-5)
        if bool((answer(loaded, ids, embeds_BLD=embeds.flip(1)) == whole).all()):
            raise Broken("embeds_BLD changes nothing beside ids")
    embeds.requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(answer(loaded, embeds_BLD=embeds).float().logsumexp(-1).sum(), embeds)
    if not bool(torch.isfinite(gradient).all()) or not bool(gradient.any()):
        raise Broken("the gradient of embeds_BLD is zero or not finite")
    for wrong in (embeds[..., :-1], embeds[0]):
        try:
            module(embeds_BLD=wrong)
        except NexVarError:
            continue
        raise Broken(f"embeddings of shape {tuple(wrong.shape)} raise no NexVarError of models.given_input")


@torch.no_grad()
def strands(loaded: Loaded) -> None:
    """the other strand gives the reversed, complemented logits"""
    if not loaded.module.rc_equivariant:
        raise Inapplicable("rc_equivariant is False")
    forward = answer(loaded, ids_of(loaded, 101))[0]
    other = loaded.tokenizer.encode(reverse_complement(BASES[:101]), special=False).ids
    reverse = answer(loaded, torch.tensor([other]))[0].flip(0)
    base = loaded.tokenizer.base_ids()
    if base is None:
        raise Broken("a tokenizer whose tokens are no single bases cannot be equivariant")
    same(forward[:, [base[b] for b in "ACGT"]], reverse[:, [base[b] for b in "TGCA"]], "strands", 1e-4)


@torch.no_grad()
def future(loaded: Loaded) -> None:
    """causal: a token changes nothing before it; masked: there is no cache"""
    module = loaded.module
    if module.causal != (loaded.card.objective == "causal"):
        raise Broken(f"causal is {module.causal}, the card says {loaded.card.objective}")
    if not module.causal:
        try:
            module.new_cache(1, 8)
        except NexVarError:
            return
        raise Broken("a masked model gives a cache")
    ids = ids_of(loaded, 100)
    other = ids.clone()
    other[:, 60:] = ids_of(loaded, 100, 300)[:, 60:]
    same(answer(loaded, other)[:, :60], answer(loaded, ids)[:, :60], "tokens before the change")


@torch.no_grad()
def caches(loaded: Loaded) -> None:
    """a cached forward in any pieces is the whole forward"""
    module, ids = _causal(loaded), ids_of(loaded, 120)
    length = ids.shape[1]
    whole = module(ids, taps=(module.last_hidden,))
    for cut in ((1,), (2, 3), (7,), (1,) * 7, (50, 51)):
        cache, pieces = module.new_cache(1, length), ids.split([*cut, length - sum(cut)], dim=1)
        outs = [module(piece, cache=cache, taps=(module.last_hidden,)) for piece in pieces]
        what = f"cut into {', '.join(str(piece.shape[1]) for piece in pieces)}"
        same(torch.cat([out.logits for out in outs], 1), whole.logits, what)
        hidden = torch.cat([out.taps[module.last_hidden] for out in outs], 1)
        same(hidden, whole.taps[module.last_hidden], f"{what}, last_hidden")
        if cache.length != length:
            raise Broken(f"cache.length is {cache.length} after {length} tokens")


@torch.no_grad()
def branches(loaded: Loaded) -> None:
    """branches of a cache do not see each other, nor does what they came from"""
    module, ids = _causal(loaded), ids_of(loaded, 120)
    ids, rest = ids[:, :100], ids[:, 100:]
    cache = module.new_cache(1, 120)
    module(ids, cache=cache)
    both = torch.cat([rest, rest.flip(1)])
    given = module(both, cache=cache.select(torch.tensor([0, 0]))).logits
    for row in range(2):
        alone = module(torch.cat([ids, both[row : row + 1]], 1)).logits[:, ids.shape[1] :]
        same(given[row : row + 1], alone, f"branch {row}")
    if cache.length != ids.shape[1]:
        raise Broken(f"the length of the cache that was branched is {cache.length}, not {ids.shape[1]}")
    same(module(rest, cache=cache).logits, given[:1], "the cache that was branched", 1e-4)


def _causal(loaded: Loaded) -> Any:
    if not loaded.module.causal:
        raise Inapplicable("a masked model")
    return loaded.module


@torch.no_grad()
def buffers(loaded: Loaded) -> None:
    """reset_buffers recomputes everything that a checkpoint does not hold"""
    module, ids = loaded.module, ids_of(loaded, 64)
    before = answer(loaded, ids)
    kept = set(module.state_dict())
    lost = {name: buffer for name, buffer in module.named_buffers() if name not in kept}
    for buffer in lost.values():
        buffer.fill_(torch.nan if buffer.is_floating_point() else 0)
    module.reset_buffers()
    for name, buffer in module.named_buffers():
        if name in lost and buffer.is_floating_point() and buffer.dtype != torch.float32:
            raise Broken(f"{name} is {buffer.dtype}, not float32")
    same(answer(loaded, ids), before, f"{len(lost)} buffers recomputed", 1e-5)


def patterns(loaded: Loaded) -> None:
    """every pattern of KEEP_FLOAT32 and QUANTIZED matches a tensor, the latter matrices alone"""
    arch, state = models.get(loaded.card.architecture), loaded.module.state_dict()
    for pattern in arch.QUANTIZED:
        for name in fnmatch.filter(state, pattern):
            if state[name].ndim != 2:
                raise Broken(f"QUANTIZED {pattern} matches {name}, which is no matrix")
    if arch.QUANTIZED and not any(fnmatch.filter(state, pattern) for pattern in arch.QUANTIZED):
        raise Broken("nothing matches QUANTIZED")
    if arch.KEEP_FLOAT32 and arch.package and not any(fnmatch.filter(state, p) for p in arch.KEEP_FLOAT32):
        raise Broken("nothing matches KEEP_FLOAT32")


def foreign(loaded: Loaded) -> None:
    """matches accepts neither an empty config.json nor those of other models"""
    arch = models.get(loaded.card.architecture)
    for other in ({}, {"model_type": "llama", "hidden_size": 8}, {"model_type": "esm", "vocab_size": 33}):
        if arch.matches(dict(other)):
            raise Broken(f"matches({other}) is True")


MODEL_CHECKS: tuple[Callable[[Loaded], None], ...] = (
    taps, logits, batches, padding, masks, elements, gradients, embeddings, strands, future, caches, branches, buffers,
    patterns, foreign,
)  # fmt: skip


def check(loaded: Loaded, one: Callable[[Loaded], None], subject: str) -> Result:
    """One of ``MODEL_CHECKS`` as a line; whatever a model raises is a failure."""
    name = (one.__doc__ or one.__name__).strip()
    try:
        one(loaded)
    except Inapplicable as reason:
        return Result(subject, name, "skipped", str(reason))
    except Exception as error:
        said = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        return Result(subject, name, "FAIL", " ".join(said.split())[:300])
    return Result(subject, name, "ok")


# -- a package


def of_card(card: Card) -> Iterator[Result]:
    """What a card says against the model that its values build."""

    def result(name: str, wrong: str, right: str = "") -> Result:
        return Result(card.label, name, "FAIL" if wrong else "ok", wrong or right)

    try:
        config = make_config(card.architecture, card.config, card.label)
        module = build(card.architecture, config, card.label)
        numbers = parameter_count(module)
        needed = footprint.footprint(card).total
        tokenizer = tokenizers.make(card.tokenizer, card.folder) if card.weights else None
    except Exception as error:
        said = str(error) if isinstance(error, NexVarError) else f"{type(error).__name__}: {error}"
        yield result("its values build a model", said)
        return
    yield result("its values build a model", "", f"{needed / 1e6:,.1f} MB with a window of {card.window:,}")
    different = f"{numbers:,}, the card says {card.parameters:,}"
    yield result("parameters", "" if numbers == card.parameters else different, f"{numbers:,}")
    if card.window > card.context:
        yield result("window", f"{card.window:,} bases, beyond the context of {card.context:,}")
    kind = "causal" if module.causal else "masked"
    yield result("objective", "" if kind == card.objective else f"{card.objective}, the model is {kind}", kind)
    wrong = scorers.MASKED if kind == "causal" else scorers.LIKELIHOOD
    known = card.readout in scorers.READOUTS and card.readout not in wrong
    yield result("readout", "" if known else f"{card.readout!r} is no readout of a {kind} model", card.readout)
    if tokenizer is not None:
        ids = tokenizer.tokenize("ACGTACGTACGT")
        text = tokenizer.detokenize(ids)
        wrong_text = "" if "ACGT" in text else f"ACGTACGTACGT reads back as {text[:40]!r}"
        if not wrong_text and max(ids) >= config.vocabulary:
            wrong_text = f"it gives token {max(ids)}, the model has {config.vocabulary}"
        yield result("tokenizer", wrong_text, card.tokenizer)


def to_run(architecture: str, own: list[Card]) -> tuple[str, Loaded]:
    """(what it is, the model to run): of the smallest card with weights beside it, else of the smallest card."""
    chosen = sorted(own, key=lambda card: (card.weights is None, card.parameters))
    if not chosen:
        raise Inapplicable(f"no card of this package is of {architecture}: nothing to run")
    card = chosen[0]
    if card.weights is not None:
        return card.label, load(card.name, device="cpu", dtype="float32")
    if card.parameters > LARGEST:
        raise Inapplicable(f"its smallest card {card.name} has {card.parameters:,} parameters and no weights beside it")
    config = make_config(architecture, card.config, card.label)
    module = fresh(architecture, config, seed=0).eval()
    tokenizer = tokenizers.make(card.tokenizer, None)
    return f"{card.label}, fresh weights", Loaded(module, tokenizer, card, torch.device("cpu"), torch.float32)


def of_package(package: str) -> Iterator[Result]:
    """Every check of an installed package; NexVarError if it offers nothing."""
    name = re.sub(r"[-_.]+", "-", package).lower()
    offered = [o for group in (plugins.MODELS, plugins.CARDS) for o in plugins.offers(group)]
    mine = [o for o in offered if name in (o.package, o.target.split(".")[0].replace("_", "-").lower())]
    if not mine:
        others = ", ".join(sorted({o.package for o in offered})) or "none does"
        what = f"it offers neither {plugins.MODELS} nor {plugins.CARDS}"
        raise NexVarError(what, where=f"package {package}", fix=f"is it installed? packages that do: {others}")
    packages = {o.package for o in mine}
    own = [card for card in cards.all_cards().values() if card.package in packages]
    for line in (line for p in sorted(packages) for line in plugins.said_of(p)):
        yield Result(line, "what it offers can be read", "FAIL")
    for card in own:
        yield from of_card(card)
    added = {o.name for o in mine if o in plugins.offers(plugins.MODELS)}
    for architecture in sorted(added | {card.architecture for card in own}):
        yield from of_architecture(architecture, [card for card in own if card.architecture == architecture])


def of_architecture(architecture: str, own: list[Card]) -> Iterator[Result]:
    """Its members, and what its model does."""
    subject = f"architecture {architecture}"
    try:
        arch = models.get(architecture)
        yield Result(subject, "has the members of the contract", "ok", f"from {arch.package or 'nexvar'}")
        subject, loaded = to_run(architecture, own)
    except Inapplicable as reason:
        yield Result(subject, "runs", "skipped", str(reason))
        return
    except Exception as error:
        said = str(error) if isinstance(error, NexVarError) else f"{type(error).__name__}: {error}"
        yield Result(subject, "can be had", "FAIL", said)
        return
    for one in MODEL_CHECKS:
        yield check(loaded, one, subject)


def main(arguments: list[str] | None = None) -> None:
    """Print a line a check; exit code 1 if one fails, 2 for bad input."""
    doors.run(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nexvar.evals.contract", description="Does a package keep it?")
    parser.add_argument("package", help="an installed package with an entry point nexvar.models or nexvar.cards")
    failed = 0
    for result in of_package(parser.parse_args(arguments).package):
        print(result, flush=True)
        failed += result.outcome == "FAIL"
    if failed:
        print(f"nexvar: {failed} check(s) failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    main()
