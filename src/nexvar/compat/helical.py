"""helical's DNA models (github.com/helicalAI/helical): ``from nexvar.compat.helical import Evo2, Evo2Config``.

    model = Evo2(configurer=Evo2Config(model_name="evo2-7b", batch_size=1))
    dataset = model.process_data(sequences)
    states = model.get_embeddings(dataset)      states["embeddings"][i] (longest, D), states["original_lengths"][i]
    made = model.generate(dataset)

What differs: an embedding row behind a sequence's own length is zero (the original: whatever the padding gave), every
sequence has its own entry whatever the batch size, and no CUDA device is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nexvar import arguments
from nexvar.compat.evo2 import original_text
from nexvar.errors import NexVarError
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.generate import Generation, generate
from nexvar.nexvar import NexVar


@dataclass
class Evo2Config:
    """model_name: evo2-7b, evo2-7b-base, evo2-1b-base (or any name or folder ``NexVar`` takes)."""

    model_name: str = "evo2-7b"
    batch_size: int = 1
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        arguments.text(self.model_name, "model_name", "the name of a model, or a folder")
        self.batch_size = arguments.whole(self.batch_size, "batch_size", 1)

    @property
    def source(self) -> str:
        """What ``NexVar`` is asked for."""
        return self.model_name.replace("-", "_") if self.model_name.startswith("evo2-") else self.model_name


@dataclass
class HyenaDNAConfig(Evo2Config):
    """model_name: hyenadna-tiny-1k-seqlen-d256, hyenadna-small-32k-seqlen, …"""

    model_name: str = "hyenadna-tiny-1k-seqlen-d256"


@dataclass(frozen=True)
class Dataset:
    """What ``process_data`` gives: ``dataset["input_ids"]`` are the sequences, as in the original."""

    sequences: tuple[str, ...]

    def __getitem__(self, key: str) -> list[str]:
        if key != "input_ids":
            raise KeyError(key)
        return list(self.sequences)

    def __len__(self) -> int:
        return len(self.sequences)


class _Model:
    """What the classes below share."""

    def __init__(self, configurer: Evo2Config) -> None:
        if not isinstance(configurer, Evo2Config):
            what = f"configurer is {arguments.described(configurer)}"
            raise NexVarError(what, where="configurer", fix="give an Evo2Config or a HyenaDNAConfig")
        self.config = self.configurer = configurer
        self.nexvar = NexVar(configurer.source, device=configurer.device, dtype=configurer.dtype)
        self.model, self.tokenizer = self.nexvar.model, self.nexvar.tokenizer
        self.max_seq_len = self.nexvar.card.context

    def process_data(self, sequences: Any) -> Dataset:
        """A string, a list of strings, or a table (pandas) with a column ``Sequence``."""
        if hasattr(sequences, "columns"):
            if "Sequence" not in sequences.columns:
                raise NexVarError("the table has no column 'Sequence'", where="process_data")
            sequences = list(sequences["Sequence"])
        one = isinstance(sequences, str)
        texts = (sequences,) if one else tuple(arguments.a_list(sequences, "process_data", "strings, or a table"))
        for i, text in enumerate(texts):
            if not isinstance(text, str) or not text:
                what = f"sequence {i} is {arguments.described(text)}"
                raise NexVarError(what, where="process_data", fix="give non-empty strings")
        return Dataset(texts)

    def _states(self, dataset: Dataset, layer: str | None) -> list[np.ndarray]:
        if not isinstance(dataset, Dataset):
            what = f"dataset is {arguments.described(dataset)}"
            raise NexVarError(what, where="dataset", fix="give what process_data returns")
        if layer is not None:
            arguments.text(layer, "embedding_layer", "the name of a layer")
        longest = max((len(text) for text in dataset.sequences), default=1)
        tokens = self.configurer.batch_size * longest
        states = self.nexvar.embed(dataset["input_ids"], layer=layer, pool="none", batch_tokens=tokens)
        return [rows.numpy() for rows in states]


class Evo2(_Model):
    """helical's ``Evo2``. Embeddings are those of the last block's ``mlp.l3`` unless a layer is named."""

    def __init__(self, configurer: Evo2Config | None = None) -> None:
        super().__init__(Evo2Config() if configurer is None else configurer)

    def get_embeddings(self, dataset: Dataset, embedding_layer: str | None = None) -> dict[str, Any]:
        """``embeddings``: for each sequence a float32 array (longest, D); ``original_lengths``: (N,) integers."""
        layer = embedding_layer or f"blocks.{len(self.model.blocks) - 1}.mlp.l3"
        rows = self._states(dataset, layer)
        lengths = np.array([len(each) for each in rows])
        longest = int(lengths.max(initial=0))
        return {
            "embeddings": [np.pad(each, ((0, longest - len(each)), (0, 0))) for each in rows],
            "original_lengths": lengths,
        }

    def generate(
        self,
        dataset: Dataset | Sequence[str],
        n_tokens: int = 500,
        temperature: float = 1.0,
        top_k: int = 4,
        top_p: float = 1.0,
        batched: bool = True,
        cached_generation: bool = True,
        verbose: int = 0,
        force_prompt_threshold: int | None = None,
        *,
        seed: int | None = None,
    ) -> Generation:
        """New text after each sequence of the dataset (or list); ``.sequences``. The other options, and the text, as in
        evo2."""
        made = generate(
            self.nexvar.loaded,
            dataset["input_ids"] if isinstance(dataset, Dataset) else dataset,
            Sampling(n_tokens, temperature, top_k, top_p, cached=cached_generation),
            seed=seed,
        )
        return original_text(made)

    def score_sequences(self, seqs: Sequence[str], **options: Any) -> list[float]:
        """As ``NexVar.score_sequences``."""
        return self.nexvar.score_sequences(seqs, **options)


class HyenaDNA(_Model):
    """helical's ``HyenaDNA``."""

    def __init__(self, configurer: HyenaDNAConfig | None = None) -> None:
        super().__init__(HyenaDNAConfig() if configurer is None else configurer)

    def get_embeddings(self, dataset: Dataset) -> np.ndarray:
        """(N, longest, D) float32: the last hidden state of every base, zeros behind a sequence's end."""
        rows = self._states(dataset, None)
        if not rows:
            return np.zeros((0, 0, 0), dtype=np.float32)
        longest = max(len(each) for each in rows)
        return np.stack([np.pad(each, ((0, longest - len(each)), (0, 0))) for each in rows])
