"""The interface of the non-coding variant benchmark (Hollis36/genomic-fm-noncoding-benchmark, docs/MODELS.md).

    model = load_model("hyenadna", {"name": "LongSafari/hyenadna-large-1m-seqlen-hf", "type": "causal"})
    model.get_embedding(seq)            (D,) float32: the last hidden state over the sequence's own tokens, pooled
    model.score_variant(ref, alt)       higher = more likely pathogenic

    class Mine(GenomicModelBase): ...   load, get_embedding, score_variant
    register_model("mine", Mine)        then: nexvar benchmark noncoding --register mine.py --model mine

The scores are theirs: log p(ref) - log p(alt), summed, or 1 - cosine of the two embeddings. What is not: sequences that
are too long are cut to their middle, where the variant is (theirs: to their beginning), and special tokens are not
pooled. models.yaml is read by ``noncoding_yaml.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.files import check_regular
from nexvar.inference.core.readout import distance
from nexvar.nexvar import NexVar

ENCODER, CAUSAL = "encoder", "causal"
LLR, DISTANCE = "log_likelihood_ratio", "embedding_distance"
QUANTIZED = {"4bit": "nf4", "8bit": "int8"}  # as models.yaml calls it -> as NexVar does
TRIES, PAUSE = 3, 5.0  # of load_with_retry; seconds


class UnknownModel(NexVarError, ValueError):
    """A key that no model has, or that one has already."""


class NotAModel(NexVarError, TypeError):
    """A class that is no ``GenomicModelBase``."""


class GenomicModelBase(ABC):
    """What a wrapper of a model derives from. config: ``name``, ``type`` (encoder or causal), ``max_length``, and what
    else the wrapper reads."""

    def __init__(self, config: dict[str, Any]) -> None:
        if not isinstance(config, Mapping):
            what = f"config is {arguments.described(config)}"
            raise NexVarError(what, where="config", fix='such as {"name": "nexvar_mito"}')
        if "name" not in config:
            raise NexVarError("no name of a model", where="config", fix='such as {"name": "nexvar_mito"}')
        self.config, self.model_name = config, str(config["name"])
        self.model_type = arguments.one_of(config.get("type", ENCODER), "config type", (ENCODER, CAUSAL))
        self.max_length = config.get("max_length", 512)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = None
        self.tokenizer: Any = None

    @abstractmethod
    def load(self) -> Any:
        """Load model and tokenizer; the object itself comes back."""

    @abstractmethod
    def get_embedding(self, sequence: str) -> np.ndarray:
        """(D,) of a sequence of A, C, G, T, N."""

    @abstractmethod
    def score_variant(self, ref_seq: str, alt_seq: str) -> float:
        """Of two windows that differ by a variant; higher = more likely pathogenic."""

    def get_embeddings_batch(self, sequences: Sequence[str], batch_size: int = 16) -> np.ndarray:
        """(N, D). batch_size: for wrappers that run sequences together."""
        return np.array([self.get_embedding(sequence) for sequence in sequences])

    def score_variants_batch(
        self, ref_seqs: Sequence[str], alt_seqs: Sequence[str], batch_size: int = 16
    ) -> np.ndarray:
        """(N,), one for each pair; NexVarError for unequal numbers of them."""
        return np.array([self.score_variant(ref, alt) for ref, alt in _pairs(ref_seqs, alt_seqs)])

    def load_with_retry(self) -> GenomicModelBase:
        """``load``, up to three times where the network fails (OSError)."""
        for left in reversed(range(TRIES)):
            try:
                self.load()
                break
            except OSError:
                if not left:
                    raise
                time.sleep(PAUSE)
        return self

    @property
    def num_parameters(self) -> int:
        """Of ``model``; 0 before ``load``, and of what is no torch module."""
        return sum(p.numel() for p in self.model.parameters()) if isinstance(self.model, torch.nn.Module) else 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.model_name}, params={self.config.get('params', '?')})"


class GenomicModel(GenomicModelBase):
    """Every model of NexVar's. config: ``name`` (what ``NexVar`` takes), and optionally

    type: "encoder" or "causal", checked against the model.
    max_length: tokens; longer input is cut to its middle. Default: the model's context.
    pooling: "mean" (the default), "max", "last", "cls". zero_shot_method: "log_likelihood_ratio" (the default of causal
    models) or "embedding_distance". quantize: "4bit", "8bit" or as in ``NexVar``. device, dtype: as in ``NexVar``.
    """

    def load(self) -> GenomicModel:
        """Load the checkpoint; a second call changes nothing."""
        if self.model is not None:
            return self
        options = {key: self.config[key] for key in ("device", "dtype") if key in self.config}
        quantize = self.config.get("quantize")
        model = NexVar(self.config["name"], quantize=QUANTIZED.get(str(quantize), quantize), **options)
        kind = CAUSAL if model.card.objective == "causal" else ENCODER
        if self.config.get("type", kind) != kind:
            raise NexVarError(f"{model.card.name} is {kind}, not {self.config['type']}", where="config type")
        default = LLR if kind == CAUSAL else DISTANCE
        self.method = arguments.one_of(
            self.config.get("zero_shot_method", default), "zero_shot_method", (LLR, DISTANCE)
        )
        if self.method == LLR and kind == ENCODER:
            raise NexVarError(f"{model.card.name} is an encoder", where="zero_shot_method", fix=DISTANCE)
        self.max_length = arguments.whole(self.config.get("max_length", model.card.context), "config max_length", 1)
        self.model_type, self.device, self.model, self.tokenizer = kind, model.device, model, model.tokenizer
        return self

    @property
    def num_parameters(self) -> int:
        return 0 if self.model is None else sum(p.numel() for p in self.model.model.parameters())

    def get_embedding(self, sequence: str) -> np.ndarray:
        """(D,) float32."""
        pooled_D: np.ndarray = self.get_embeddings_batch([sequence])[0]
        return pooled_D

    def get_embeddings_batch(self, sequences: Sequence[str], batch_size: int = 16) -> np.ndarray:
        """(N, D) float32; batch_size changes nothing."""
        model = self._loaded()
        texts = [self._cut(text)[0] for text in arguments.a_list(sequences, "sequences")]
        pooled_ND: np.ndarray = model.embed(texts, pool=self.config.get("pooling", "mean")).numpy()
        return pooled_ND

    def score_variant(self, ref_seq: str, alt_seq: str) -> float:
        """See above; 0.0 for equal sequences. Both are cut at the same places where they are too long."""
        return float(self.score_variants_batch([ref_seq], [alt_seq])[0])

    def score_variants_batch(
        self, ref_seqs: Sequence[str], alt_seqs: Sequence[str], batch_size: int = 16
    ) -> np.ndarray:
        """(N,) float64; batch_size changes nothing."""
        model = self._loaded()
        cut = [self._cut(ref, alt) for ref, alt in _pairs(ref_seqs, alt_seqs)]
        texts = list(dict.fromkeys(text for pair in cut for text in pair))
        at = {text: i for i, text in enumerate(texts)}
        ref_N, alt_N = ([at[pair[side]] for pair in cut] for side in (0, 1))
        if not texts:
            return np.empty(0)
        if self.method == LLR:
            found_U = np.array(model.score_sequences(texts, reduce_method="sum"), dtype=np.float64)
            return found_U[ref_N] - found_U[alt_N]
        found_UD = model.embed(texts, pool=self.config.get("pooling", "mean"))
        return distance(found_UD[ref_N], found_UD[alt_N], "cosine").numpy().astype(np.float64)

    def _loaded(self) -> NexVar:
        if self.model is None:
            raise NexVarError("the model is not loaded", where=self.model_name, fix="call load() first")
        loaded: NexVar = self.model
        return loaded

    def _cut(self, *texts: str) -> tuple[str, ...]:
        """The middle of each text: as many bases are taken off at both ends as the first one has too many."""
        for text in texts:
            arguments.text(text, "seq", "give a string of bases")
        first, context = texts[0], self._loaded().card.context
        keep = min(len(first), context)
        if self.tokenizer.base_ids() is not None:
            keep = min(keep, self.max_length)
        while keep > self.max_length:  # no token is shorter than a base
            left = (len(first) - keep) // 2
            spans = self.tokenizer.encode(first[left : left + keep].upper()).spans
            tokens = sum(start < end for start, end in spans)
            if tokens <= self.max_length:
                break
            keep = max(self.max_length, min(keep - 1, keep * self.max_length // tokens))
        left = (len(first) - keep) // 2
        right = len(first) - keep - left
        return tuple(text[left : max(left + 1, len(text) - right)][:context] for text in texts)


def _pairs(ref_seqs: Sequence[str], alt_seqs: Sequence[str]) -> list[tuple[str, str]]:
    refs, alts = arguments.a_list(ref_seqs, "ref_seqs"), arguments.a_list(alt_seqs, "alt_seqs")
    if len(refs) != len(alts):
        raise NexVarError(f"{len(refs):,} references but {len(alts):,} alternatives", where="score_variants_batch")
    return list(zip(refs, alts, strict=True))


# --- the registry ---

DNABERT2Model = NucleotideTransformerModel = HyenaDNAModel = CaduceusModel = EvoModel = GenomicModel
MODEL_REGISTRY: dict[str, type[GenomicModelBase]] = dict.fromkeys(
    ("dnabert2", "nucleotide_transformer_500m", "nucleotide_transformer_2500m", "hyenadna", "caduceus", "evo1"),
    GenomicModel,
)


def register_model(name: str, model_class: type[GenomicModelBase]) -> None:
    """Give a wrapper a name; TypeError where it is no ``GenomicModelBase``, ValueError where the name is taken."""
    arguments.text(name, "name")
    if not isinstance(model_class, type) or not issubclass(model_class, GenomicModelBase):
        raise NotAModel(
            f"{arguments.described(model_class)} is no class that derives from GenomicModelBase", where=name
        )
    if name in MODEL_REGISTRY:
        raise UnknownModel("a model of this name is registered", where=name, fix="call unregister_model first")
    MODEL_REGISTRY[name] = model_class


def unregister_model(name: str) -> None:
    """Take a name back; ValueError where there is none."""
    _registered(name)
    del MODEL_REGISTRY[name]


def list_available_models() -> list[str]:
    """Every registered name."""
    return list(MODEL_REGISTRY)


def create_model(model_key: str, config: dict[str, Any]) -> GenomicModelBase:
    """A model that is not loaded yet; ValueError for a key that none has."""
    return _registered(model_key)(config)


def load_model(model_key: str, config: dict[str, Any]) -> GenomicModelBase:
    """``create_model``, loaded."""
    model = create_model(model_key, config)
    model.load()
    return model


def _registered(name: str) -> type[GenomicModelBase]:
    if not isinstance(name, str) or name not in MODEL_REGISTRY:
        raise UnknownModel(f"no model {arguments.described(name)}", fix=f"one of {', '.join(MODEL_REGISTRY)}")
    return MODEL_REGISTRY[name]


def wrapper(name: str, config: dict[str, Any] | None = None) -> GenomicModelBase | None:
    """The wrapper that a user registered as ``name``, not loaded; None for names that are NexVar's own or nobody's.

    config: None is ``{"name": name}``. NexVarError where its constructor fails.
    """
    found = MODEL_REGISTRY.get(name, GenomicModel)
    if issubclass(found, GenomicModel):
        return None
    try:
        made = found({"name": name} if config is None else config)
    except Exception as error:
        raise _failed(error, f"{name}: {found.__name__}") from error
    if not isinstance(getattr(made, "model_name", None), str):
        fix = "call super().__init__(config) in its __init__"
        raise NexVarError("it has no model_name", where=f"{name}: {found.__name__}", fix=fix)
    return made


def register_from(source: str | Path) -> list[str]:
    """Run a user's own Python, a .py file or an installed module that calls ``register_model``; the names that it gave.

    NexVarError where it fails or gives none. It is a program: run only what you would run yourself.
    """
    text, before = str(source), set(MODEL_REGISTRY)
    try:
        if text.endswith(".py"):
            path = check_regular(text).resolve()
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.path.insert(0, str(path.parent))  # what lies beside it can be imported, as when Python runs it
            spec.loader.exec_module(module)
        else:
            importlib.import_module(text)
    except Exception as error:
        raise _failed(error, text) from error
    if not (made := [name for name in MODEL_REGISTRY if name not in before]):
        raise NexVarError("it registers no model", where=text, fix="call register_model(name, class) in it")
    return made


def _failed(error: Exception, where: str) -> NexVarError:
    """A user's own code failed: its words, and the line of its file."""
    if isinstance(error, NexVarError):
        return error
    last = traceback.extract_tb(error.__traceback__)[-1]
    return NexVarError(f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})", where=where)
