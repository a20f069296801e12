"""Nucleotide Transformer v1, v2, AgroNT in JAX: the interface of github.com/instadeepai/nucleotide-transformer.

    parameters, forward_fn, tokenizer, config = get_pretrained_model(
        model_name="250M_multi_species_v2", embeddings_layers_to_save=(20,), max_positions=32
    )
    forward_fn = hk.transform(forward_fn)           # with dm-haiku; without it leave this line out
    outs = forward_fn.apply(parameters, key, tokens)
    outs["embeddings_20"], outs["logits"]

A forward in ``jax.numpy`` that jit, grad, vmap and pmap take; weights come through ``weights.load`` (checked, nothing
executed) and are named as the original's haiku modules. The numbers are the JAX package's: LayerNorm epsilon 1e-5,
queries of padding masked too, logits of padding zero. Its numbering is kept: layers from 1; the last layer's embedding
is taken after the final LayerNorm; attention map "number n" is head n + 1.

B batch, L tokens, D width, H heads, d head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nexvar import arguments
from nexvar.cards import is_known
from nexvar.errors import NexVarError
from nexvar.files import at_home
from nexvar.models.nucleotide_transformer import JAX_LAYER_NORM_EPS, MASKED_IN_TRAINING, ROTARY_BASE
from nexvar.tokenizers import KmerTokenizer
from nexvar.weights.load import Loaded, load

if TYPE_CHECKING:
    import jax

MODELS = (
    "500M_human_ref",
    "500M_1000G",
    "2B5_1000G",
    "2B5_multi_species",
    "50M_multi_species_v2",
    "50M_3mer_multi_species_v2",
    "100M_multi_species_v2",
    "250M_multi_species_v2",
    "500M_multi_species_v2",
    "1B_agro_nt",
)
Parameters = Mapping[str, Mapping[str, "jax.Array"]]  # haiku module -> name -> value


@dataclass(frozen=True)
class NucleotideTransformerConfig:
    """The original's names."""

    alphabet_size: int
    max_positions: int
    embed_dim: int
    ffn_embed_dim: int
    num_layers: int
    attention_heads: int
    positional_embedding: str | None  # "learned", or None with rotary embeddings
    use_rotary_embedding: bool
    use_glu_in_ffn: bool
    add_bias_ffn: bool
    token_dropout: bool
    emb_layer_norm_before: bool
    pad_token_id: int
    mask_token_id: int
    embeddings_layers_to_save: tuple[int, ...] = ()
    attention_maps_to_save: tuple[tuple[int, int], ...] = ()


def get_pretrained_model(
    model_name: str,
    compute_dtype: Any = None,
    param_dtype: Any = None,
    output_dtype: Any = None,
    embeddings_layers_to_save: Sequence[int] = (),
    attention_maps_to_save: Sequence[tuple[int, int]] | None = None,
    max_positions: int = 1024,
    verbose: bool = True,
) -> tuple[Parameters, ForwardFn, Tokenizer, NucleotideTransformerConfig]:
    """``(parameters, forward_fn, tokenizer, config)`` of one of ``MODELS``, or of a folder in the hub's layout.

    compute_dtype, param_dtype, output_dtype: of activations, weights and results; None is float32.
    embeddings_layers_to_save: layers from 1, in ``outs["embeddings_k"]`` (B, L, D).
    attention_maps_to_save: (layer from 1, number), in ``outs["attention_map_layer_l_number_n"]`` (B, L, L).
    max_positions: tokens every sequence is padded to, <cls> included. verbose is ignored.
    Raises NexVarError: an unknown name, layers the model has not, a checkpoint that cannot be had, no jax.
    """
    jnp = _jax().numpy
    path = at_home(arguments.path(model_name, "model_name"))
    max_positions = arguments.whole(max_positions, "max_positions", 1)
    layers = [
        arguments.whole(layer, "embeddings_layers_to_save")
        for layer in arguments.a_list(embeddings_layers_to_save, "embeddings_layers_to_save", "whole numbers")
    ]
    maps = arguments.pairs(attention_maps_to_save or (), "attention_maps_to_save")
    if model_name not in MODELS and not path.is_dir():
        raise NexVarError(f"no model called {model_name!r}", where="model_name", fix=f"one of {', '.join(MODELS)}")
    loaded = load(model_name if is_known(model_name) else path, device="cpu", dtype="float32")
    if loaded.card.architecture != "nucleotide_transformer":
        raise NexVarError(f"{model_name} is a {loaded.card.architecture}", where="model_name")
    config = _config(loaded, tuple(layers), tuple(maps))
    root = f"nucleotide_transformer{model_name if model_name in MODELS else path.name}"
    parameters = _parameters(loaded, root, param_dtype or jnp.float32)
    forward_fn = ForwardFn(config, root, compute_dtype or jnp.float32, output_dtype or jnp.float32)
    kmers = loaded.tokenizer
    assert isinstance(kmers, KmerTokenizer)
    layout = "v1" if kmers.vocab_size - 4**kmers.k == 9 else "v2"
    tokenizer = Tokenizer(KmerTokenizer(kmers.k, layout, unknown="jax"), max_positions)
    return parameters, forward_fn, tokenizer, config


def _jax() -> Any:
    try:
        import jax
        import jax.numpy  # noqa: F401  so that jax.numpy is there
    except ImportError as error:
        raise NexVarError("jax is not installed", fix="pip install 'nexvar[jax]'") from error
    return jax


def _config(
    loaded: Loaded, embeddings: tuple[int, ...], maps: tuple[tuple[int, int], ...]
) -> NucleotideTransformerConfig:
    """The original's config of our model; NexVarError for a layer it does not have."""
    ours = loaded.module.config
    for name, layers in (
        ("embeddings_layers_to_save", embeddings),
        ("attention_maps_to_save", tuple(pair[0] for pair in maps)),
    ):
        for layer in layers:
            if not 1 <= layer <= ours.num_hidden_layers:
                fix = f"layers count from 1 to {ours.num_hidden_layers}"
                raise NexVarError(f"no layer {layer}", where=name, fix=fix)
    rotary = ours.position_embedding_type == "rotary"
    return NucleotideTransformerConfig(
        alphabet_size=ours.vocab_size,
        max_positions=ours.max_position_embeddings,
        embed_dim=ours.hidden_size,
        ffn_embed_dim=ours.intermediate_size,
        num_layers=ours.num_hidden_layers,
        attention_heads=ours.num_attention_heads,
        positional_embedding=None if rotary else "learned",
        use_rotary_embedding=rotary,
        use_glu_in_ffn=ours.gated_mlp,
        add_bias_ffn=ours.mlp_bias,
        token_dropout=ours.token_dropout,
        emb_layer_norm_before=ours.emb_layer_norm_before,
        pad_token_id=ours.pad_token_id,
        mask_token_id=ours.mask_token_id,
        embeddings_layers_to_save=embeddings,
        attention_maps_to_save=maps,
    )


# -- weights

LAYER = {
    "attention.self.query": "self_attention/query",
    "attention.self.key": "self_attention/key",
    "attention.self.value": "self_attention/value",
    "attention.output.dense": "self_attention/mha_output",
    "attention.LayerNorm": "self_attention_layer_norm",
    "LayerNorm": "final_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
}
REST = {
    "esm.embeddings.word_embeddings": "~/embed",
    "esm.embeddings.position_embeddings": "~/esm_learned_positional_embeddings/~/embed",
    "esm.embeddings.layer_norm": "~/emb_layer_norm_before",
    "esm.encoder.emb_layer_norm_after": "~/roberta_lm_head/~/emb_layer_norm_after",
    "lm_head.dense": "~/roberta_lm_head/~/lm_head_fc_1",
    "lm_head.layer_norm": "~/roberta_lm_head/~/lm_head_layer_norm",
    "lm_head.decoder": "~/roberta_lm_head/~/lm_final_fc",
}


def haiku_name(name: str) -> tuple[str, str]:
    """Official PyTorch name -> (haiku module below the root, parameter such as w, b, scale, offset)."""
    module, _, kind = name.rpartition(".")
    if module.startswith("esm.encoder.layer."):
        number, _, part = module.removeprefix("esm.encoder.layer.").partition(".")
        place = f"attention_layer_{number}/~/{LAYER[part]}"
    else:
        place = REST[module]
    if "embeddings" in module and module.endswith("_embeddings"):
        return place, "embeddings"
    if "norm" in module.lower():
        return place, {"weight": "scale", "bias": "offset"}[kind]
    return place, {"weight": "w", "bias": "b"}[kind]


def _parameters(loaded: Loaded, root: str, dtype: Any) -> Parameters:
    jnp = _jax().numpy
    parameters: dict[str, dict[str, jax.Array]] = {}
    for name, tensor in loaded.module.state_dict().items():
        place, kind = haiku_name(name)
        values = tensor.numpy()
        parameters.setdefault(f"{root}/{place}", {})[kind] = jnp.asarray(
            values.T if kind == "w" else values, dtype=dtype
        )
    return parameters


# -- forward


@dataclass(frozen=True)
class ForwardFn:
    """``apply(parameters, key, tokens)``: a pure function. key is not used (the original takes one too).

    tokens: (B, L) int32. attention_mask: (B, 1, L, L) or (B, L), True for real tokens; by default all but <pad>.
    """

    config: NucleotideTransformerConfig
    root: str
    compute_dtype: Any
    output_dtype: Any

    def __call__(self, tokens: Any, attention_mask: Any = None) -> dict[str, Any]:
        """For ``hk.transform``: the forward with the parameters of haiku's current scope."""
        try:
            import haiku as hk
        except ImportError as error:
            raise NexVarError("call apply(parameters, key, tokens)", fix="or pip install dm-haiku") from error
        return self.apply(hk.get_params(), None, tokens, attention_mask)

    def init(self, key: Any, tokens: Any, attention_mask: Any = None) -> Any:
        raise NexVarError("parameters are not initialised here", fix="use those that get_pretrained_model returned")

    def apply(self, parameters: Parameters, key: Any, tokens: Any, attention_mask: Any = None) -> dict[str, Any]:
        """logits (B, L, V), and what was asked for; in ``output_dtype``."""
        jnp, config = _jax().numpy, self.config
        mask_BL = tokens != config.pad_token_id if attention_mask is None else _rows(attention_mask)
        x_BLD = self._embed(parameters, tokens, mask_BL)
        rope = _rope(config, tokens.shape[1]) if config.use_rotary_embedding else None
        visible_BLL = mask_BL[:, :, None] & mask_BL[:, None, :]
        outs: dict[str, Any] = {}
        for layer in range(1, config.num_layers + 1):
            name = f"attention_layer_{layer - 1}/~/"
            mixed_BLD, maps_BHLL = self._attention(parameters, name, x_BLD, rope, visible_BLL)
            x_BLD = x_BLD + mixed_BLD
            x_BLD = x_BLD + self._mlp(parameters, name, x_BLD)
            if layer in config.embeddings_layers_to_save and layer < config.num_layers:
                outs[f"embeddings_{layer}"] = x_BLD
            for wanted, number in config.attention_maps_to_save:
                if wanted == layer:
                    head = min(number + 1, config.attention_heads - 1)
                    outs[f"attention_map_layer_{layer}_number_{number}"] = maps_BHLL[:, head]
        head_name = "~/roberta_lm_head/~/"
        x_BLD = self._norm(parameters, f"{head_name}emb_layer_norm_after", x_BLD)
        if config.num_layers in config.embeddings_layers_to_save:
            outs[f"embeddings_{config.num_layers}"] = x_BLD
        y_BLD = _gelu(self._linear(parameters, f"{head_name}lm_head_fc_1", x_BLD))
        y_BLD = self._norm(parameters, f"{head_name}lm_head_layer_norm", y_BLD)
        logits = self._linear(parameters, f"{head_name}lm_final_fc", y_BLD)
        outs["logits"] = jnp.where(mask_BL[..., None], logits, 0)
        return {name: value.astype(self.output_dtype) for name, value in outs.items()}

    def _get(self, parameters: Parameters, place: str) -> dict[str, Any]:
        return {k: v.astype(self.compute_dtype) for k, v in parameters[f"{self.root}/{place}"].items()}

    def _linear(self, parameters: Parameters, place: str, x: Any) -> Any:
        p = self._get(parameters, place)
        return x @ p["w"] + p["b"] if "b" in p else x @ p["w"]

    def _norm(self, parameters: Parameters, place: str, x: Any) -> Any:
        """In float32, as the original's policy for norms."""
        jnp, p = _jax().numpy, self._get(parameters, place)
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        scaled = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + JAX_LAYER_NORM_EPS)
        return (scaled * p["scale"].astype(jnp.float32) + p["offset"].astype(jnp.float32)).astype(x.dtype)

    def _embed(self, parameters: Parameters, tokens: Any, mask_BL: Any) -> Any:
        jnp, config = _jax().numpy, self.config
        x_BLD = self._get(parameters, "~/embed")["embeddings"][tokens]
        if config.token_dropout:
            masked_BL = tokens == config.mask_token_id
            share_B = masked_BL.sum(-1) / mask_BL.sum(-1)
            x_BLD = jnp.where(masked_BL[..., None], 0, x_BLD)
            x_BLD = x_BLD * ((1 - MASKED_IN_TRAINING) / (1 - share_B))[:, None, None].astype(x_BLD.dtype)
        if config.positional_embedding == "learned":
            longest = config.max_positions - config.pad_token_id - 1
            if tokens.shape[1] > longest:
                raise NexVarError(f"{tokens.shape[1]} tokens, but the model knows {longest} positions", where="tokens")
            positions = mask_BL.cumsum(-1) * mask_BL + config.pad_token_id
            table = self._get(parameters, "~/esm_learned_positional_embeddings/~/embed")["embeddings"]
            x_BLD = x_BLD + table[positions]
        if config.emb_layer_norm_before:
            x_BLD = self._norm(parameters, "~/emb_layer_norm_before", x_BLD)
        return x_BLD

    def _attention(self, parameters: Parameters, name: str, x_BLD: Any, rope: Any, visible_BLL: Any) -> tuple[Any, Any]:
        """The branch (B, L, D) and the maps (B, H, L, L)."""
        jax = _jax()
        jnp, H = jax.numpy, self.config.attention_heads
        n_BLD = self._norm(parameters, f"{name}self_attention_layer_norm", x_BLD)
        q, k, v = (
            self._linear(parameters, f"{name}self_attention/{part}", n_BLD).reshape(*n_BLD.shape[:2], H, -1)
            for part in ("query", "key", "value")
        )
        if rope is not None:
            q, k = _rotate(q, *rope), _rotate(k, *rope)
        scores = jnp.einsum("blhd,bmhd->bhlm", q, k) / q.shape[-1] ** 0.5
        scores = jnp.where(visible_BLL[:, None], scores.astype(jnp.float32), -1e30)
        maps = jax.nn.softmax(scores, axis=-1).astype(x_BLD.dtype)
        mixed_BLD = jnp.einsum("bhlm,bmhd->blhd", maps, v).reshape(x_BLD.shape)
        return self._linear(parameters, f"{name}self_attention/mha_output", mixed_BLD), maps

    def _mlp(self, parameters: Parameters, name: str, x_BLD: Any) -> Any:
        jax = _jax()
        h = self._linear(parameters, f"{name}fc1", self._norm(parameters, f"{name}final_layer_norm", x_BLD))
        if self.config.use_glu_in_ffn:
            gate, value = jax.numpy.split(h, 2, axis=-1)
            h = jax.nn.silu(gate) * value
        else:
            h = _gelu(h)
        return self._linear(parameters, f"{name}fc2", h)


def _gelu(x: Any) -> Any:
    return _jax().nn.gelu(x, approximate=False)


def _rows(attention_mask: Any) -> Any:
    """(B, L) bool of a mask (B, L), or of the original's (B, 1, L, L), whose diagonal says which tokens are real."""
    jnp = _jax().numpy
    mask = jnp.asarray(attention_mask).astype(bool)
    return mask if mask.ndim == 2 else jnp.diagonal(mask[:, 0], axis1=1, axis2=2)


def _rope(config: NucleotideTransformerConfig, length: int) -> tuple[Any, Any]:
    """cos and sin, each (L, d / 2) float32."""
    jnp, width = _jax().numpy, config.embed_dim // config.attention_heads
    inverse = 1.0 / ROTARY_BASE ** (jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angles = jnp.outer(jnp.arange(length, dtype=jnp.float32), inverse)
    return jnp.cos(angles), jnp.sin(angles)


def _rotate(x_BLHd: Any, cos_Lh: Any, sin_Lh: Any) -> Any:
    jnp = _jax().numpy
    a, b = jnp.split(x_BLHd.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos_Lh[:, None], sin_Lh[:, None]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x_BLHd.dtype)


# -- tokens


@dataclass(frozen=True)
class Tokenizer:
    """The original's FixedSizeNucleotidesKmersTokenizer: A, C, G, T and N only, <cls> in front, padded to a length."""

    kmers: KmerTokenizer
    fixed_length: int

    @property
    def vocabulary(self) -> list[str]:
        return list(self.kmers.tokens)

    @property
    def pad_token_id(self) -> int:
        return self.kmers.pad_id

    @property
    def mask_token_id(self) -> int:
        return self.kmers.ids["<mask>"]

    @property
    def class_token_id(self) -> int:
        return self.kmers.cls_id

    def token_to_id(self, token: str) -> int:
        return self.kmers.ids[token]

    def id_to_token(self, token_id: int) -> str:
        return self.kmers.tokens[token_id]

    def tokenize(self, sequence: str) -> tuple[list[str], list[int]]:
        """(tokens, ids), not padded; NexVarError for letters other than A, C, G, T and N."""
        if not isinstance(sequence, str):
            what = f"sequence is {arguments.described(sequence)}"
            raise NexVarError(what, where="sequence", fix="give a string of bases")
        ids = self.kmers.encode(sequence).ids
        return [self.kmers.tokens[i] for i in ids], ids

    def batch_tokenize(self, sequences: Sequence[str]) -> list[tuple[list[str], list[int]]]:
        """(tokens, ids) of each, padded to ``fixed_length``; NexVarError for one that is longer."""
        padded = []
        for i, sequence in enumerate(arguments.a_list(sequences, "sequences")):
            tokens, ids = self.tokenize(sequence)
            missing = self.fixed_length - len(ids)
            if missing < 0:
                raise NexVarError(
                    f"{len(ids)} tokens, max_positions is {self.fixed_length}",
                    where=f"sequences[{i}]",
                    fix="give get_pretrained_model a larger max_positions",
                )
            padded.append((tokens + ["<pad>"] * missing, ids + [self.pad_token_id] * missing))
        return padded
