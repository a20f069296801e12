"""What the contract asks of a model that runs (models/__init__.py): one function a promise, its docstring the line.

Each raises Broken where the promise is not kept, Inapplicable where it says nothing of the model. contract.py asks them
of a package, tests/models/test_every_model.py of NexVar's own architectures.
"""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.genome.reference import reverse_complement
from nexvar.weights.load import Loaded

BASES = "".join(random.Random(3).choices("ACGT", k=600))


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
