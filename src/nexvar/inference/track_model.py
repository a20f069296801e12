"""A model with a head of tracks (``nexvar finetune`` with ``[task] kind = "tracks"``), as its folder holds it.

    config.json, model.safetensors   the trunk, which ``load`` reads
    head.safetensors, tracks.json    the head; names, strands, resolution, scaling: ``TrackFacts``

    letters (L) ── tokens ── trunk ── hidden, one state a base ── head ── scaled (N, K) ── sums of bins ── values
B batch, T tokens, L bases, D width, N bins, K tracks.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.files import check_inside, write_bytes
from nexvar.inference.core.batching import equal_batches, padded
from nexvar.inference.core.sequences import encoding, token_ids
from nexvar.models.track_heads import HEADS, Scaling, make
from nexvar.weights import checkpoint
from nexvar.weights.assemble import all_finite
from nexvar.weights.checkpoint import safetensors
from nexvar.weights.load import Loaded, load
from nexvar.weights.typed import json_values

HEAD, FACTS = "head.safetensors", "tracks.json"
GIVE = 'give the model folder of a [task] run of kind = "tracks"'


@dataclass(frozen=True)
class TrackFacts:
    """What tracks.json says of K tracks.

    partners: which track each becomes on the other strand; itself where it has none. strands: "+", "-" or ".".
    resolution: bases of a bin. window: bases it was trained on. head: its kind. means, powers, clip: ``Scaling``.
    """

    names: tuple[str, ...]
    partners: tuple[int, ...]
    strands: tuple[str, ...]
    resolution: int
    window: int
    head: str
    means: tuple[float, ...]
    powers: tuple[float, ...]
    clip: float

    @classmethod
    def read(cls, path: Path) -> TrackFacts:
        """NexVarError for a file that no such run wrote."""
        values = json_values(cls, path, "no head of tracks", GIVE)
        kept: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        facts = cls(**kept)
        facts._check(path)
        return facts

    def _check(self, path: Path) -> None:
        K = len(self.names)
        lists = (self.partners, self.strands, self.means, self.powers)
        sound = (
            K > 0
            and all(len(values) == K for values in lists)
            and sorted(self.partners) == list(range(K))
            and all(self.partners[partner] == i for i, partner in enumerate(self.partners))
            and set(self.strands) <= set("+-.")
            and self.head in HEADS
            and min(self.means) > 0 and min(self.powers) > 0 and self.clip >= 0
            and self.resolution >= 1 and self.window >= self.resolution
        )  # fmt: skip
        if not sound:
            raise NexVarError("its tracks do not fit together", where=path, fix=GIVE)

    def write(self, path: Path) -> None:
        write_bytes(path, f"{json.dumps(dataclasses.asdict(self), indent=1)}\n".encode())

    @property
    def scaling(self) -> Scaling:
        return Scaling(self.means, self.powers, self.resolution, self.clip)

    def other_strand(self, values_BNK: Any) -> Any:
        """Values of a reverse complement as values of the sequence itself, and back: bins reversed, partners swapped.
        A tensor or an array (…, N, K)."""
        flip = values_BNK.flip(-2) if isinstance(values_BNK, Tensor) else values_BNK[..., ::-1, :]
        return flip[..., list(self.partners)]


class TrackModel(nn.Module):
    """A trunk and its head. freeze: only the head learns."""

    def __init__(self, loaded: Loaded, facts: TrackFacts, *, freeze: bool = False) -> None:
        super().__init__()
        self.trunk, self.freeze = loaded.module, freeze
        self.layer = loaded.module.last_hidden
        self.causal = loaded.card.objective == "causal"
        self.stride = loaded.module.tap_stride.get(self.layer, 1)
        with torch.no_grad():
            ids_1T, mask_1T = padded(loaded, [token_ids(loaded.tokenizer, "ACGT" * 32, special=False)])
            width = self._hidden(ids_1T, mask_1T).shape[-1]
        self.head = make(facts.head, width, len(facts.names), facts.resolution).to(loaded.device)
        if freeze:
            self.trunk.requires_grad_(False)

    def _hidden(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        mask = None if self.causal else mask_BT  # right padding changes nothing in a causal model
        return self.trunk(ids_BT, mask_BL=mask, taps=(self.layer,), logits=False).taps[self.layer]

    def positions_per_token(self, parameter: str) -> float:
        """As the trunk's; the head works once a bin."""
        return self.trunk.positions_per_token(parameter.removeprefix("trunk."))

    def train(self, mode: bool = True) -> TrackModel:
        """NOTE: a frozen trunk stays as it will be used: without dropout."""
        super().train(mode)
        if self.freeze:
            self.trunk.eval()
        return self

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, at_BL: Tensor | None) -> Tensor:
        """Scaled values (B, N, K) float32. at_BL: the token of each base, int64; None: a token for each base."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            hidden_BTD = self._hidden(ids_BT, mask_BT)
        if at_BL is None and self.stride == 1:
            return self.head(hidden_BTD)
        at_BL = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None] if at_BL is None else at_BL
        rows_B1 = torch.arange(len(hidden_BTD), device=at_BL.device)[:, None]
        return self.head(hidden_BTD[rows_B1, at_BL // self.stride])


def scaled(model: Any, loaded: Loaded, texts: Sequence[str], bf16: bool = False) -> Tensor:
    """(B, N, K) float32 of sequences of one length, a multiple of the resolution; A, C, G, T and N, upper case.

    A model that cannot pad reads equal numbers of tokens together.
    """
    made, each_base = zip(*(_tokens(loaded, text) for text in texts), strict=True)
    parts: list[Tensor] = [torch.empty(0)] * len(texts)
    lengths = [len(ids) for ids in made]
    for batch in equal_batches(lengths, len(texts) * max(lengths), pads=loaded.module.pads_safely):
        ids_BT, mask_BT = padded(loaded, [made[i] for i in batch])
        at_BL = None
        if any(each_base[i] is not None for i in batch):
            at_BL = torch.tensor(np.stack([each_base[i] for i in batch])).to(loaded.device)
            if (at_BL < 0).any():
                what = f"bases that are in no token of {loaded.card.name}"
                raise NexVarError(what, where="tracks", fix="a window that its tokens fill")
        with torch.autocast(loaded.device.type, torch.bfloat16, enabled=bf16):
            out_BNK = model(ids_BT, mask_BT, at_BL)
        for i, part in zip(batch, out_BNK, strict=True):
            parts[i] = part
    return torch.stack(parts)


def _tokens(loaded: Loaded, text: str) -> tuple[list[int], np.ndarray | None]:
    """The ids, and (L,) int64 the token of each base; None where each base is a token, which needs no spans."""
    if loaded.tokenizer.base_ids() is not None and not loaded.card.special_tokens:
        return token_ids(loaded.tokenizer, text, special=False), None
    encoded = encoding(loaded, text)
    return encoded.ids, encoded.base_to_token(len(text))


class Tracks:
    """A trained model of tracks, ready to use."""

    def __init__(self, loaded: Loaded, facts: TrackFacts, model: TrackModel) -> None:
        self.loaded, self.facts, self.model = loaded, facts, model.eval()

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Tracks:
        """NexVarError for a folder without a sound head of tracks."""
        TrackFacts.read(folder / FACTS)  # before a large model is loaded
        with no_language_model():
            loaded = load(folder, device=device)
        return cls.of(loaded, folder)

    @classmethod
    def of(cls, loaded: Loaded, folder: Path) -> Tracks:
        """A loaded model with the head in its folder."""
        facts = TrackFacts.read(folder / FACTS)
        weights = _read_head(folder / HEAD)
        model = TrackModel(loaded, facts)
        try:
            model.head.load_state_dict(weights)
        except RuntimeError as error:
            raise NexVarError("the head is of another model", where=folder / HEAD, fix=GIVE) from error
        return cls(loaded, facts, model)

    @torch.no_grad()
    def values(self, texts: Sequence[str]) -> np.ndarray:
        """(B, N, K) float32: each bin's mean a base, as bigWigs say it; as ``scaled`` takes texts."""
        sums_BNK = self.facts.scaling.sums(scaled(self.model, self.loaded, texts).double())
        values_BNK = (sums_BNK / self.facts.resolution).float().cpu().numpy()
        if not np.isfinite(values_BNK).all():
            what = "the head makes no finite number of it"
            raise NexVarError(what, where="tracks", fix="train it again; are its weights absurdly large?")
        return values_BNK


@contextmanager
def no_language_model() -> Iterator[None]:
    """Around the loading of a model for its tracks: that it has no other head is no news."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*loaded without a language-model head")
        yield


def write_head(folder: Path, facts: TrackFacts, head: Mapping[str, Tensor]) -> None:
    """The two files beside the trunk's. head: the state of ``TrackModel.head``."""
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.write(dict(head), folder / HEAD)
    facts.write(folder / FACTS)


def _read_head(path: Path) -> dict[str, Tensor]:
    head = checkpoint.read([check_inside(path)])
    for name, tensor in head.items():
        if not tensor.is_floating_point() or not all_finite(tensor):
            raise NexVarError(f"{name[:80]} holds NaN, infinite or whole numbers", where=path, fix="a damaged head")
    return {name: tensor.float() for name, tensor in head.items()}
