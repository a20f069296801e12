"""Nucleotide Transformer v3: a U-Net around a transformer at 1/128 of base resolution; masked language model,
functional tracks and genome annotation.

    ids (B, L) ── embed_layer ── stem: conv 15 ── conv_tower_blocks.0 .. n-1, each halving L (its input is a skip)
      block: x = gelu(conv5(LN x)); x = x + gate * gelu(conv1(LN x)); average of two positions
    transformer_blocks at L / 2^n: pre-norm, rotary, SiLU-gated MLP without biases
    deconv_tower_blocks, each doubling L: x = gelu(upconv5(LN x)); x = x + gate * gelu(conv1(LN x)); + skip
    "embedding" (B, L, C) ─┬─ gelu ── lm_head ── logits (B, L, V)
                           ├─ central part ── bigwig_head of the row's species ── softplus ── tracks
                           └─ central part ── bed_head ── (elements, 2)
    post-trained: an embedding of the species makes shift and scale of every LN, and the gates; otherwise gate = 1

Unusual:
- Every GELU is the tanh form. One tower's convolutions have fixed LayerNorm epsilon 1e-5.
- ``deconv_upsample_type`` "repeat+conv" doubles positions before the convolution; "conv_transpose" puts zeros at the
  even positions and correlates with the kernel as stored (torch's conv_transpose1d would flip it).
- L must be a multiple of 2^n. Shorter inputs are filled up with N, as the authors advise, and outputs cut back; tracks
  need a full multiple, since their central part is a share of the whole input.
- ``mask_BL`` hides padding exactly: a row of a padded batch gives what it gives alone. Without a mask <pad> is a token
  like any other (hub code).
- The hub's PyTorch code and the JAX package differ; ``reference = "jax"`` follows the latter: blocks that are <pad>
  throughout are no attention keys (pre-trained models), GELU before ``conditions_heads``, epsilon 1e-6 in the track
  heads, and another rounding of the central part.

Sources: github.com/instadeepai/nucleotide-transformer (JAX); hf.co/InstaDeepAI/ntv3_base_model; Boshar et al. 2025,
doi:10.64898/2025.12.22.695963.
B batch, L bases, C channels (D in the transformer), E width of a condition, H heads, V vocabulary, T tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import (
    GenomicModel,
    Ia3,
    Memory,
    Output,
    check_attentions,
    check_masked,
    check_taps,
    given_input,
)
from nexvar.models import _ntv3 as parts
from nexvar.ops.rotary import inverse_frequencies, rotary_tables
from nexvar.ops.tracing import tracing
from nexvar.ops.unet import LAYER_NORM_EPS, AdaptiveLayerNorm, Conditions, TowerBlock, gelu

KEEP_FLOAT32: tuple[str, ...] = ()
QUANTIZED = ("*.sa_layer.*_head.linear.weight", "*.sa_layer.mha_output.weight", "*.transformer_blocks.*.fc?.weight")
HEADS = ("core.lm_head.",)
MEMORY = Memory(8, mlp=0, fixed=2.8e6)
ROTARY_BASE = 10_000.0
WINDOW = 32_768  # that the authors' examples of post-trained models read
LORA_TARGETS = ("query_head.linear", "key_head.linear", "value_head.linear", "mha_output", "fc1", "fc2")
LORA_NAMES = {
    **{name: (f"{name}_head.linear",) for name in ("query", "key", "value")},
    "dense": ("mha_output", "fc1", "fc2"),
}
IA3 = Ia3(outputs=(r"sa_layer\.(key|value)_head\.linear",), inputs=("fc2",))
UPSAMPLE = {"repeat+conv": "repeat", "conv_transpose": "zeros"}


@dataclass(frozen=True)
class Config:
    """Names as in the official config.json; the defaults are the hub code's (NTv3_8M_pre).

    conditions_vocab_size: one entry per condition (species); empty for pre-trained models.
    bigwigs_per_species: {species: track names}; heads are ordered by ``species_to_token_id``.
    default_species: what a forward without ``species_ids_B`` assumes.
    """

    alphabet_size: int = 11
    num_downsamples: int = 7
    attention_heads: int = 8
    key_size: int = 32
    token_embed_dim: int = 16
    conv_init_embed_dim: int = 256
    embed_dim: int = 256
    ffn_embed_dim: int = 1024
    num_layers: int = 2
    layer_norm_eps: float = 1e-5
    num_hidden_layers_head: int = 0
    use_skip_connection: bool = True
    deconv_upsample_type: str = "repeat+conv"
    deconv_phase: str = "odd"
    pad_token_id: int = 1
    mask_token_id: int = 2
    n_token_id: int = 10
    conditions_vocab_size: tuple[int, ...] = ()
    bigwigs_per_species: dict[str, list[str]] = field(default_factory=dict)
    bed_elements_names: tuple[str, ...] = ()
    species_to_token_id: dict[str, int] = field(default_factory=dict)
    num_species_special_tokens: int = 6
    keep_target_center_fraction: float = 1.0
    default_species: str | None = None

    def __post_init__(self) -> None:
        if self.attention_heads * self.key_size != self.embed_dim:
            raise NexVarError(
                f"{self.attention_heads} heads x {self.key_size} is not embed_dim {self.embed_dim}", where="config"
            )
        if self.deconv_upsample_type not in UPSAMPLE or self.deconv_phase not in ("odd", "even"):
            raise NexVarError(
                f"no upsampling {self.deconv_upsample_type!r} with phase {self.deconv_phase!r}",
                where="config",
                fix=f"one of {', '.join(UPSAMPLE)}; odd or even",
            )
        if not 0 < self.keep_target_center_fraction <= 1:
            raise NexVarError(
                f"keep_target_center_fraction is {self.keep_target_center_fraction}", where="config", fix="0 < x <= 1"
            )
        unknown = set(self.bigwigs_per_species) - set(self.species_to_token_id)
        if unknown:
            raise NexVarError(f"species without a token: {', '.join(sorted(unknown))}", where="config")

    @property
    def tokenizer(self) -> str:
        return "ntv3"

    context = None  # the cards say it

    @property
    def width(self) -> int:
        return self.embed_dim

    @property
    def mlp_width(self) -> int:
        return self.ffn_embed_dim

    @property
    def vocabulary(self) -> int:
        return self.alphabet_size

    @property
    def unit(self) -> int:
        """Bases per position of the transformer: lengths are multiples of it."""
        return 2**self.num_downsamples

    @property
    def channels(self) -> list[int]:
        """Widths before, between and after the tower's blocks: linear from conv_init_embed_dim to embed_dim."""
        first, last, steps = self.conv_init_embed_dim, self.embed_dim, self.num_downsamples
        # NOTE numpy.linspace(...).astype(int) of the original: float64, truncated.
        return [int(first + i * ((last - first) / steps)) if i < steps else last for i in range(steps + 1)]

    @property
    def condition_widths(self) -> tuple[int, ...]:
        """The width of each condition's embedding."""
        return (self.token_embed_dim,) * len(self.conditions_vocab_size)

    @property
    def track_species(self) -> list[str]:
        """Species in the order of their track heads."""
        return sorted(self.bigwigs_per_species, key=lambda name: self.species_to_token_id[name])


class _Core(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = config.channels
        self.embed_layer = nn.Embedding(config.alphabet_size, config.token_embed_dim)
        self.stem = parts.Stem(config.token_embed_dim, config.conv_init_embed_dim)
        pairs = list(zip(channels, channels[1:], strict=False))
        conditions = config.condition_widths
        up, phase = UPSAMPLE[config.deconv_upsample_type], config.deconv_phase
        self.conv_tower_blocks = nn.ModuleList(TowerBlock(a, b, conditions=conditions) for a, b in pairs)
        # NOTE: the hub's conditioned blocks ignore layer_norm_eps, the JAX ones use it: see Model.reference.
        eps = LAYER_NORM_EPS if conditions else config.layer_norm_eps
        self.transformer_blocks = nn.ModuleList(
            parts.TransformerBlock(config.embed_dim, config.attention_heads, config.ffn_embed_dim, conditions, eps)
            for _ in range(config.num_layers)
        )
        self.deconv_tower_blocks = nn.ModuleList(
            TowerBlock(b, a, conditions=conditions, up=up, phase=phase) for a, b in reversed(pairs)
        )
        width = config.conv_init_embed_dim
        self.lm_head = parts.LMHead(width, config.num_hidden_layers_head, config.alphabet_size)
        if config.conditions_vocab_size:
            sizes, embed = config.conditions_vocab_size, config.token_embed_dim
            self.cond_tables = nn.ModuleList(nn.Embedding(size, embed) for size in sizes)
            self.conditions_heads = nn.ModuleList(nn.Linear(config.embed_dim, size) for size in sizes)
        if config.bigwigs_per_species:
            tracks = [len(config.bigwigs_per_species[name]) for name in config.track_species]
            self.bigwig_head = parts.BigwigHead(width, tracks)
        if config.bed_elements_names:
            self.bed_head = parts.TrackHead(width, 2 * len(config.bed_elements_names))


class Model(GenomicModel):
    """See the module's docstring.

    Taps besides the official module names: "embedding" (base resolution, the last), "before_transformer_embedding",
    "after_transformer_embedding", ``embeddings_k`` and ``embeddings_deconv_k`` (the JAX package's, from 1; the latter
    after the skip), ``hidden_states.i`` (the hub's order: conv blocks before their pooling, transformer blocks, deconv
    blocks after the skip). ``tap_stride[name]`` is how many bases one position of a tap stands for.
    """

    config: Config
    last_hidden = "embedding"
    token_embedding = "core.embed_layer"
    element_window = WINDOW
    causal = False
    pads_safely = True
    rc_equivariant = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.core = _Core(config)
        self._reference = "hf"
        self.elements, self.element_unit = config.bed_elements_names, config.unit
        self.tap_stride, self._alias = parts.tap_places(config.num_downsamples, config.num_layers)
        self.tap_names = tuple(self.tap_stride)
        self.register_buffer("inv_freq", inverse_frequencies(config.key_size, ROTARY_BASE), persistent=False)

    def reset_buffers(self) -> None:
        """Recompute the rotary frequencies (float32) on the parameters' device."""
        self.inv_freq = inverse_frequencies(self.config.key_size, ROTARY_BASE).to(self.core.embed_layer.weight.device)

    def positions_per_token(self, parameter: str) -> float:
        """At how many positions per base a parameter works: that of its place in the U-Net."""
        block = ".".join(parameter.split(".")[:3])
        stride = self.tap_stride.get(f"{block}.res_conv", self.tap_stride.get(block, 1))  # a block halves at its end
        return 1 / stride

    @property
    def reference(self) -> str:
        """Whose numbers are computed where the official codes differ: "hf" (default) or "jax"; can be set."""
        return self._reference

    @reference.setter
    def reference(self, name: str) -> None:
        if name not in parts.HEAD_EPS:
            raise NexVarError(f"no reference {name!r}", where="reference", fix="'hf' or 'jax'")
        self._reference = name
        for module in self.core.modules():
            if isinstance(module, parts.TrackHead):
                module.layer_norm.eps = parts.HEAD_EPS[name]
        if self.config.conditions_vocab_size:
            for module in self.core.transformer_blocks.modules():
                if isinstance(module, AdaptiveLayerNorm):
                    module.eps = LAYER_NORM_EPS if name == "hf" else self.config.layer_norm_eps

    def species_ids(self, names: str | Sequence[str]) -> Tensor:
        """(B,) token ids of species names, for ``species_ids_B``."""
        known = {k: v for k, v in self.config.species_to_token_id.items() if not k.startswith("<")}
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            if name not in known:
                fix = f"one of {', '.join(sorted(known))}" if known else "this model knows no species"
                raise NexVarError(f"no species {name!r}", where="species", fix=fix)
        return torch.tensor([known[name] for name in wanted])

    def forward(
        self,
        ids_BL: Tensor | None = None,
        *,
        embeds_BLD: Tensor | None = None,
        mask_BL: Tensor | None = None,
        taps: Sequence[str] = (),
        cache: None = None,
        logits: bool | slice = True,
        attentions: Sequence[int] = (),
        species_ids_B: Tensor | None = None,
        condition_ids: Sequence[Tensor] | None = None,
        condition_masks: Sequence[Tensor | None] | None = None,
        heads: bool | None = None,
    ) -> Output:
        """ids (B, L) -> masked-LM logits (B, L, V), and tracks in ``extras``.

        mask_BL: True for real tokens, padding at the right; None means that every token counts, <pad> too.
        attentions: transformer blocks, from 0, whose maps (B, H, L/unit, L/unit) go to ``extras["attentions"]``.
        species_ids_B: species token of each row (``species_ids("human")``); None is ``Config.default_species``.
        condition_ids: (B,) ids of every condition, for models with others than species; condition_masks: (B,) True
        where a condition applies.
        heads: with ``logits=True``, extras get "bigwig_tracks_logits" (B, central L, T), "bed_tracks_logits"
        (B, central L, elements, 2) and "condition_i_logits" (B, its vocabulary). None: if species or conditions are
        given, so that scoring does not pay for thousands of tracks.
        Raises NexVarError for unknown taps, layers or species, a cache, or tracks of an unaligned length.
        """
        config, core = self.config, self.core
        if heads is None:
            heads = species_ids_B is not None or condition_ids is not None
        check_taps(taps, self.tap_names)
        check_attentions(attentions, config.num_layers)
        check_masked(cache)
        given = given_input(ids_BL, embeds_BLD, config.token_embed_dim)
        conditions, species = self._conditions(given, species_ids_B, condition_ids, condition_masks, heads)
        length = given.shape[1]
        ids_BL, x_BLC, inside_BL = parts.fill_up(
            core.embed_layer, config.n_token_id, config.unit, ids_BL, embeds_BLD, mask_BL
        )
        wanted = {self._alias.get(name, name) for name in taps}
        kept: dict[str, Tensor] = {}

        def tap(name: str, x: Tensor | None) -> None:
            if x is not None and name in wanted:
                kept[name] = x[:, : -(-length // self.tap_stride[name])]

        if inside_BL is not None:
            x_BLC = x_BLC * inside_BL[..., None]
        x_BLC = core.stem(x_BLC)
        tap("core.stem", x_BLC)
        skips = []
        for i, block in enumerate(core.conv_tower_blocks):
            name = f"core.conv_tower_blocks.{i}"
            skips.append(x_BLC)
            inside = parts.at_stride(inside_BL, 2**i)
            x_BLC, before = block(x_BLC, conditions, inside_BL=inside, keep=f"{name}.res_conv" in wanted)
            tap(f"{name}.res_conv", before)
            tap(name, x_BLC)

        rope = rotary_tables(self.inv_freq, 0, x_BLC.shape[1])
        keys_BL = parts.at_stride(inside_BL, config.unit)
        if self._reference == "jax" and keys_BL is None and conditions is None and ids_BL is not None:
            keys_BL = (ids_BL != config.pad_token_id).unflatten(1, (-1, config.unit)).any(-1)
        maps: dict[int, Tensor] = {}
        for i, block in enumerate(core.transformer_blocks):
            x_BLC, weights = block(x_BLC, rope, conditions, keys_BL, i in attentions)
            if weights is not None:
                maps[i] = weights
            tap(f"core.transformer_blocks.{i}", x_BLC)
        bottom_BLC = x_BLC

        for i, block in enumerate(core.deconv_tower_blocks):
            name = f"core.deconv_tower_blocks.{i}"
            skip = skips.pop() if config.use_skip_connection else None
            inside = parts.at_stride(inside_BL, 2 ** (config.num_downsamples - i))
            x_BLC, before = block(x_BLC, conditions, inside_BL=inside, skip_BLC=skip, keep=name in wanted)
            tap(name, before)
            tap(f"embeddings_deconv_{i + 1}", x_BLC)
        x_BLC = x_BLC[:, :length]

        extras: dict[str, Any] = {"attentions": maps} if attentions else {}
        scores = None
        if logits is not False:
            scores = core.lm_head(x_BLC if logits is True else x_BLC[:, logits])
        if heads and logits is True:
            extras |= self._heads(x_BLC, bottom_BLC, keys_BL, species)
        return Output(scores, {name: kept[self._alias.get(name, name)] for name in taps}, extras)

    def told(self, bases: int) -> int:
        centre = parts.central(bases, self.config.keep_target_center_fraction, self._reference)
        return centre.stop - centre.start

    def element_logits(self, ids_BL: Tensor, species: str | None = None) -> Tensor:
        """Of the central ``keep_target_center_fraction`` of the bases."""
        if not self.elements:
            return super().element_logits(ids_BL, species)
        known = None if species is None else self.species_ids(species)
        logits = self(ids_BL, species_ids_B=known, heads=True).extras["bed_tracks_logits"]
        assert isinstance(logits, Tensor)
        return logits

    def _conditions(
        self,
        given: Tensor,
        species_ids_B: Tensor | None,
        condition_ids: Sequence[Tensor] | None,
        condition_masks: Sequence[Tensor | None] | None,
        heads: bool,
    ) -> tuple[Conditions | None, list[int]]:
        """The embedded conditions, and each row's species as the index of its track head."""
        config = self.config
        count = len(config.conditions_vocab_size)
        if not count:
            if species_ids_B is not None or condition_ids is not None:
                raise NexVarError("this model takes no species", where="species_ids_B", fix="leave it away")
            return None, []
        if condition_ids is None:
            if species_ids_B is None:
                if config.default_species is None:
                    raise NexVarError("no species given", where="species_ids_B", fix="model.species_ids('…')")
                species_ids_B = self.species_ids(config.default_species)
            condition_ids = [species_ids_B.to(given.device).expand(len(given))]
        if len(condition_ids) != count:
            raise NexVarError(f"{len(condition_ids)} conditions, the model has {count}", where="condition_ids")
        species: list[int] = []
        if tracing() and config.bigwigs_per_species:
            if heads:
                what = "each row's species chooses its tracks' head, which an exported graph cannot do"
                raise NexVarError(what, where="heads", fix="heads=False: logits and hidden states")
        elif config.bigwigs_per_species:
            species = [int(i) - config.num_species_special_tokens for i in condition_ids[0].tolist()]
            if any(not 0 <= i < len(config.bigwigs_per_species) for i in species):
                fix = f"one of {', '.join(config.track_species)}"
                raise NexVarError("a species token without tracks", where="species_ids_B", fix=fix)
        vectors = [table(ids) for table, ids in zip(self.core.cond_tables, condition_ids, strict=True)]
        return Conditions(vectors, list(condition_masks or [None] * count)), species

    def predict_tracks(self, ids_BL: Tensor, species: str, columns: Sequence[int]) -> Tensor:
        """(B, central L, K): these of the species' tracks; the others, thousands of them, are not computed.

        L is a multiple of the unit.
        """
        config, tap = self.config, self.last_hidden
        species_B = self.species_ids(species).to(ids_BL.device).expand(len(ids_BL))
        x_BLC = self(ids_BL, taps=(tap,), logits=False, species_ids_B=species_B, heads=False).taps[tap]
        x_BLC = x_BLC[:, parts.central(x_BLC.shape[1], config.keep_target_center_fraction, self._reference)]
        head: Any = self.core.bigwig_head.species_heads[config.track_species.index(species)]
        return F.softplus(head.some(x_BLC, columns))

    def _heads(
        self, x_BLC: Tensor, bottom_BLC: Tensor, keys_BL: Tensor | None, species: list[int]
    ) -> dict[str, Tensor]:
        """The logits of conditions and of tracks that this checkpoint has; tracks cover the central part only."""
        config, core = self.config, self.core
        outputs: dict[str, Tensor] = {}
        if config.conditions_vocab_size:
            if keys_BL is None:
                mean_BD = bottom_BLC.mean(1)
            else:
                keep = keys_BL[..., None]
                mean_BD = bottom_BLC.masked_fill(~keep, 0.0).sum(1) / keep.sum(1)
            if self._reference == "jax":
                mean_BD = gelu(mean_BD)
            for i, head in enumerate(core.conditions_heads):
                outputs[f"condition_{i}_logits"] = head(mean_BD)
        if not (config.bigwigs_per_species or config.bed_elements_names):
            return outputs
        if x_BLC.shape[1] % config.unit or keys_BL is not None:
            raise NexVarError(
                "tracks need rows of one length, a multiple of " + str(config.unit),
                where="input_ids",
                fix="cut or fill up with N, or heads=False for no tracks",
            )
        centre = x_BLC[:, parts.central(x_BLC.shape[1], config.keep_target_center_fraction, self._reference)]
        if config.bigwigs_per_species:
            outputs["bigwig_tracks_logits"] = core.bigwig_head(centre, species)
        if config.bed_elements_names:
            outputs["bed_tracks_logits"] = core.bed_head(centre).unflatten(-1, (-1, 2))
        return outputs
