"""What an architecture is made of: the base of its ``Model``, what its ``Config`` tells, what its file may declare.

Legend: B batch, L length, V vocabulary, D width, F width of the MLP.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.ops.tracing import surely_all


class Output(NamedTuple):
    """What a forward returns. ``outputs[0]`` is the logits, as in the official packages.

    logits: (B, L, V), or None when the caller asked for taps only.
    taps: official module name -> its output, (B, L, D).
    extras: what one family has beside these (router logits, attention maps, tracks); usually empty.
    """

    logits: Tensor | None
    taps: dict[str, Tensor]
    extras: dict[str, Any]


class Cache(Protocol):
    """The state of a causal model after ``length`` tokens."""

    length: int

    def select(self, rows: Tensor) -> Cache:
        """A new cache whose batch rows are ``rows`` of this one (repeats allowed: branching)."""
        ...


class Config(Protocol):
    """What every ``Config``, a frozen dataclass, tells of itself beside its fields."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def width(self) -> int:
        """Columns of the hidden states (both strands' where a model keeps both)."""
        ...

    @property
    def mlp_width(self) -> int:
        """Columns inside of an MLP or a tower's convolutions; 0 where there is none."""
        ...

    @property
    def vocabulary(self) -> int:
        """Columns of the logits."""
        ...

    @property
    def tokenizer(self) -> str | None:
        """Its name in ``nexvar.tokenizers.make``; None: the one of the architecture's cards."""
        ...

    @property
    def context(self) -> int | None:
        """The longest input in bases; None: that of the architecture's cards."""
        ...


class GenomicModel(nn.Module):
    """The base of every architecture's ``Model``. What has no value here must be set by the class or its instances."""

    config: Config
    last_hidden: str  # the tap that is the model's final hidden state
    tap_names: tuple[str, ...]
    causal: bool  # reads from left to right, and has a cache; False: a masked model
    pads_safely: bool  # right padding (with its mask, for masked models) changes no real token
    rc_equivariant: bool  # the other strand gives the reversed, complemented output: one strand is enough
    bounded_forward: bool = False  # its uncached forward walks pieces itself: a cache would only cost memory and time
    token_embedding: str = ""  # the module whose output for ids stands in their place as ``embeds_BLD``; "": none may
    tap_stride: Mapping[str, int] = {}  # U-Nets: tap -> tokens that one of its positions stands for, where not 1
    elements: tuple[str, ...] = ()  # of a model that annotates: the names of what it tells of every base
    element_window: int | None = None  # bases that its authors read at once for them; None: the card's window
    element_unit: int = 1  # bases of which an input of ``element_logits`` has a multiple
    without: tuple[str, ...] = ()  # of the architecture's HEADS, those that the checkpoint did not have

    @property
    def has_head(self) -> bool:
        """Whether there are logits: the checkpoint may have been a trunk alone."""
        return not self.without

    def drop(self, head: str) -> None:
        """Leave out the head whose parameters' names begin so: what the checkpoint did not have cannot be computed."""
        parent, _, name = head.rstrip(".").rpartition(".")
        setattr(self.get_submodule(parent), name, MissingHead())
        self.without = (*self.without, head)

    @property
    def input_embeddings(self) -> nn.Module:
        """ids (B, L) -> what a forward takes as ``embeds_BLD`` (B, L, D); NexVarError where it takes none."""
        if not self.token_embedding:
            what = f"{type(self).__module__} takes no embeddings in place of ids"
            raise NexVarError(what, where="inputs_embeds", fix="input_ids")
        return self.get_submodule(self.token_embedding)

    def forward(
        self,
        ids_BL: Tensor | None = None,
        *,
        embeds_BLD: Tensor | None = None,  # in place of the ids' embeddings; ids beside them tell special tokens alone
        mask_BL: Tensor | None = None,  # True = real token; causal models with right padding need none
        taps: Sequence[str] = (),
        cache: Any | None = None,  # causal models: ids_BL continue the cached tokens; updated in place
        logits: bool | slice = True,  # False: taps only; a slice over L: logits of these positions alone
    ) -> Output:
        """Logits and taps of ids (B, L) int64; NexVarError for an unknown tap."""
        raise NotImplementedError

    def new_cache(self, batch_size: int, max_length: int) -> Any:
        """An empty ``Cache`` for up to ``max_length`` tokens (causal models only)."""
        raise NexVarError("a masked language model has no cache", where="cache", fix="pass whole sequences")

    def told(self, bases: int) -> int:
        """How many of a row's bases, those in the middle, ``element_logits`` tells of."""
        return bases

    def element_logits(self, ids_BL: Tensor, species: str | None = None) -> Tensor:
        """(B, bases, elements, 2): absent and present, at the bases in the middle of what the rows, of one length and
        without padding, cover. species: where the model asks for one; None is its default."""
        raise NexVarError("this model has no element head", where="model", fix="segment_nt, or a post-trained NTv3")

    def decoder(self, cache: Any, capture: Any) -> Callable[[Tensor], Tensor] | None:
        """One decoding step, with a cache that has taken one before: ids (B, 1) -> logits (B, 1, V), ``forward``'s
        bit for bit, by steps of fixed shape that ``capture`` records (``ops/static.py``). None: this model has none."""
        return None

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Random values of a model that is only run, not trained. Default: those of the architecture's
        ``init_parameter``, or its constructor's, stay; another where these leave layers silent."""

    def reset_buffers(self) -> None:
        """Recompute every non-persistent buffer in float32, on the parameters' device."""
        raise NotImplementedError

    @classmethod
    def layers_by_kind(cls, config: Any) -> list[tuple[int, Any]]:
        """(how many, the config of a model of one of them): what a cache holds, added up. Default: the whole model."""
        return [(1, config)]

    def positions_per_token(self, parameter: str) -> float:
        """At how many positions a token the parameter of this name works: less than 1 inside of a U-Net."""
        return 1.0


class MissingHead(nn.Module):
    """In the place of a head that the checkpoint did not have."""

    def forward(self, *_: Any, **__: Any) -> Tensor:
        raise NexVarError(
            "this checkpoint has no language-model head: there are no logits",
            where="logits",
            fix="logits=False and taps, or a checkpoint with its head",
        )


@dataclass(frozen=True)
class Memory:
    """Values that a forward of L tokens holds at its peak, as measured by benchmarks/memory.py on a CPU:

        L * (width * D + mlp * F + V) + min(L, rows) * block * F + fixed

    The defaults are above every architecture's measured so far. cache_grows: whether a new cache is empty, and gets
    its tensors with the first tokens.
    """

    width: float = 25.0
    mlp: float = 7.0
    rows: int = 0  # tokens that go through the MLP at once
    block: float = 0.0
    fixed: float = 0.0  # float32 values
    cache_grows: bool = True


@dataclass(frozen=True)
class Split:
    """How several processes share the layers of a model in training (train/split.py); names are ends of names.

    rows, channels: {parameter: how many matrices lie on top of one another in it}, each cut by its rows; ``rows`` over
    the processes of ``tensor``, ``channels``, which belong to filters, over those of ``tensor`` and ``context``.
    columns: parameters cut by their columns, over ``tensor``.
    copies, sums: modules whose input all processes have, and whose output is the sum of theirs.
    filters: modules ``(z_BLE, state, mask_BL1)`` that need every position of a channel, and nothing of other channels.

    What else a module may have is replaced: ``attend``, the function that needs every position of a head, and
    ``dispatch``, which sends tokens to its ``experts``. ``first_position`` is set to where a process' part begins.
    """

    rows: Mapping[str, int]
    columns: tuple[str, ...]
    channels: Mapping[str, int] = field(default_factory=dict)
    copies: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ia3:
    """What (IA)3 scales: regular expressions of the names of linear layers inside a block.

    outputs: layers that give keys or values. fused: layers that give queries, keys and values, a third each; queries
    are left alone. inputs: layers that read the inner activations of the feed-forward part.
    """

    outputs: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """An architecture's members, gathered from its file and that of its foreign layout; ``models.get`` makes it.

    package: the installed package that brings it; None for NexVar's own.
    """

    name: str
    Config: Any
    Model: type[GenomicModel]
    matches: Callable[[dict[str, Any]], bool]
    from_official: Callable[[dict[str, Any]], Any]
    convert: Callable[[dict[str, Tensor], Any], dict[str, Tensor]]
    KEEP_FLOAT32: tuple[str, ...]
    QUANTIZED: tuple[str, ...]
    HEADS: tuple[str, ...] = ()
    LORA_TARGETS: tuple[str, ...] = ()
    LORA_NAMES: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    IA3: Ia3 | None = None
    to_official: Callable[[dict[str, Tensor], Any], dict[str, Tensor]] | None = None
    official_values: Callable[[Any], dict[str, Any]] | None = None
    tied_layers: Callable[[Any], dict[str, str]] | None = None
    UNREAD: tuple[str, ...] = ()
    MEMORY: Memory = Memory()
    SPLIT: Split | None = None
    init_parameter: Callable[[str, Tensor, Any, torch.Generator], None] | None = None
    init_buffers: Callable[[Any], None] | None = None
    package: str | None = None


def check_taps(requested: Sequence[str], known: Sequence[str]) -> None:
    """Raise a NexVarError that names the nearest layers if a requested tap does not exist."""
    for name in requested:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.3)) or ", ".join(known[:3])
            raise NexVarError(f"no layer {name!r}", where="layer_names", fix=f"did you mean {near}?")


def block_taps(tap_names: Sequence[str]) -> list[str]:
    """The taps that are whole blocks, in order: the most numerous ``<stem>.0, <stem>.1, …``."""
    stems: dict[str, list[str]] = {}
    for name in tap_names:
        if match := re.fullmatch(r"(.+)\.(\d+)", name):
            stems.setdefault(match[1], []).append(name)
    return max(stems.values(), key=len, default=[])


def check_attentions(layers: Sequence[int], count: int) -> None:
    """Raise a NexVarError for a layer whose attention maps cannot be had: it is not one of ``count``."""
    for layer in layers:
        if not 0 <= layer < count:
            raise NexVarError(f"no layer {layer}", where="attentions", fix=f"layers count from 0 to {count - 1}")


def check_ids(input_ids: object, vocab_size: int, where: str = "input_ids") -> Tensor:
    """(B, L) int64 on the device they are on; NexVarError for what is no such tensor or no token of the model."""
    if not isinstance(input_ids, Tensor) or input_ids.ndim != 2 or not input_ids.numel():
        fix = "a tensor (B, L) of token ids: torch.tensor([model.tokenizer.tokenize('ACGT')])"
        shown = f"{tuple(input_ids.shape)}" if isinstance(input_ids, Tensor) else arguments.described(input_ids)
        raise NexVarError(f"it is {shown}", where=where, fix=fix)
    if input_ids.dtype == torch.bool or input_ids.is_floating_point() or input_ids.is_complex():
        raise NexVarError(f"they are {input_ids.dtype}", where=where, fix="whole numbers, such as torch.long")
    low, high = (int(extreme) for extreme in torch.aminmax(input_ids))
    if low < 0 or high >= vocab_size:
        bad = low if low < 0 else high
        raise NexVarError(f"{bad} is no token", where=where, fix=f"ids are from 0 to {vocab_size - 1}")
    return input_ids.long()


def given_input(ids_BL: Tensor | None, embeds_BLD: Tensor | None, width: int) -> Tensor:
    """What a forward works on, embeddings (B, L, width) or ids (B, L); NexVarError for neither or a wrong shape."""
    if embeds_BLD is None:
        if ids_BL is None:
            raise NexVarError("neither token ids nor embeddings", where="input_ids", fix="ids (B, L)")
        return ids_BL
    shape = (*embeds_BLD.shape[:2], width) if ids_BL is None else (*ids_BL.shape, width)
    if tuple(embeds_BLD.shape) != shape or not embeds_BLD.is_floating_point():
        what = f"they are {embeds_BLD.dtype} of shape {tuple(embeds_BLD.shape)}"
        fix = f"floating point of shape {shape}" if ids_BL is not None else f"floating point of shape (B, L, {width})"
        raise NexVarError(what, where="inputs_embeds", fix=fix)
    return embeds_BLD


def look_up(table: nn.Module, ids_BL: Tensor | None, embeds_BLD: Tensor | None) -> Tensor:
    """What an embedding gives for the ids, unless that is given (and gets the dtype of its ``weight``)."""
    weight: Any = table.weight
    return table(ids_BL) if embeds_BLD is None else embeds_BLD.to(weight.dtype)


def check_masked(cache: Any | None) -> None:
    """Raise a NexVarError for a cache given to a masked language model."""
    if cache is not None:
        raise NexVarError("a masked language model has no cache", where="cache", fix="pass whole sequences")


def padding_mask(ids_BL: Tensor, pad_id: int) -> Tensor | None:
    """True for every token but padding; None when there is none, which lets attention take its fastest path."""
    mask_BL = ids_BL != pad_id
    return None if surely_all(mask_BL) else mask_BL
