"""A loaded model as the Hugging Face ecosystem calls one (Trainer, PEFT, captum, …); nothing of theirs is imported.

    model = NexVar("nt_v2_50m").as_hf()
    out = model(input_ids=ids, attention_mask=mask, labels=labels)      out.loss, out["logits"], out[0]
    model(inputs_embeds=model.get_input_embeddings()(ids)).logits       the same logits, and gradients to the embeddings

The module inside is the very one of the ``NexVar``: what is trained here is trained there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.models import GenomicModel, block_taps, check_ids
from nexvar.ops.tracing import tracing
from nexvar.weights.load import Loaded

IGNORED = -100  # the label of a position without a target


@dataclass(frozen=True)
class Config:
    """What tools ask of a config: standard names, by attribute, ``get`` or as a dict."""

    model_type: str  # NexVar's name of the architecture
    name_or_path: str
    hidden_size: int
    num_hidden_layers: int
    vocab_size: int
    max_position_embeddings: int
    pad_token_id: int
    is_decoder: bool
    is_encoder_decoder: bool = False
    use_cache: bool = False
    use_return_dict: bool = True
    tie_word_embeddings: bool = False  # tied weights are one parameter here: nothing has to be tied again

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"


class ModelOutput(dict[str, Any]):
    """loss, logits, hidden_states: by attribute (None where not computed), by name, or by number among those there."""

    def __getattr__(self, name: str) -> Any:
        if name in ("loss", "logits", "hidden_states"):
            return self.get(name)
        raise AttributeError(name)

    def __getitem__(self, key: Any) -> Any:
        return self.to_tuple()[key] if isinstance(key, (int, slice)) else super().__getitem__(key)

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(self.values())


class HFModel(nn.Module):
    """See the module's docstring; ``NexVar.as_hf()`` makes it."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self.model: GenomicModel = loaded.module
        self._hidden = hidden_states(self.model)
        self.config = Config(
            model_type=loaded.card.architecture,
            name_or_path=loaded.card.name,
            hidden_size=self.model.config.width,
            num_hidden_layers=len(block_taps(self.model.tap_names)),
            vocab_size=self.model.config.vocabulary,
            max_position_embeddings=loaded.card.context,
            pad_token_id=loaded.tokenizer.pad_id,
            is_decoder=self.model.causal,
        )

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.model.parameters() if p.is_floating_point())

    def get_input_embeddings(self) -> nn.Module:
        """ids (B, L) -> ``inputs_embeds`` (B, L, D): an ``nn.Embedding``, but in Caduceus-PS, which embeds two strands
        (D is twice the model's width)."""
        return self.model.input_embeddings

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Recompute the activations of every block in backward. Without reentry, whatever the arguments say."""
        from nexvar.train.weights import checkpoint_blocks  # brings torch's distributed training

        self.gradient_checkpointing_disable()
        checkpoint_blocks(self.model)

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        from nexvar.train.weights import blocks_of

        for block in blocks_of(self.model):
            block.__dict__.pop("forward", None)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits (B, L, V), with ``labels`` the loss, with ``output_hidden_states`` a tuple of (B, L, D).

        input_ids: (B, L) whole numbers. inputs_embeds: (B, L, D) in their place; ids given beside them only tell where
        special tokens are (see docs/embeddings.md). attention_mask: (B, L), non-zero for real tokens.
        labels: (B, L) token ids, -100 where none counts; a causal model's prediction of token i + 1 is at i, so the
        labels are the ids themselves. The loss is the mean cross entropy, in float32.
        return_dict: False for a tuple of what there is.
        Raises NexVarError for neither ids nor embeddings, wrong shapes, ids that are no tokens, a model without a head.
        """
        if input_ids is not None and tracing():
            input_ids = input_ids.long()
        elif input_ids is not None:
            input_ids = check_ids(input_ids, self.config.vocab_size)
        given: dict[str, Tensor] = {}
        if inputs_embeds is not None:
            self.get_input_embeddings()  # refuses where there are none
            if not isinstance(inputs_embeds, Tensor):
                raise NexVarError(f"it is {arguments.described(inputs_embeds)}", where="inputs_embeds", fix="a tensor")
            given["embeds_BLD"] = inputs_embeds
        elif input_ids is None:
            raise NexVarError("neither input_ids nor inputs_embeds", where="input_ids", fix="give one of them")
        shape = (inputs_embeds if input_ids is None else input_ids).shape[:2]  # type: ignore[union-attr]
        mask_BL = _checked(attention_mask, shape, "attention_mask")
        targets_BL = _checked(labels, shape, "labels")
        if targets_BL is not None and not tracing():
            check_ids(targets_BL.masked_fill(targets_BL == IGNORED, 0), self.config.vocab_size, "labels")
        if not self.model.has_head and labels is not None:
            raise NexVarError("this checkpoint has no language-model head: there is no loss", where="labels")
        names = self._hidden if output_hidden_states or not self.model.has_head else ()
        out = self.model(
            input_ids,
            mask_BL=None if mask_BL is None else mask_BL.bool(),
            taps=tuple(dict.fromkeys(names)),
            logits=self.model.has_head,
            **given,
        )
        result = ModelOutput()
        if targets_BL is not None:
            result["loss"] = loss(out.logits, targets_BL, causal=self.model.causal)
        if out.logits is not None:
            result["logits"] = out.logits
        if names:
            result["hidden_states"] = tuple(out.taps[name] for name in names)
        return result.to_tuple() if return_dict is False else result


def loss(logits_BLV: Tensor, labels_BL: Tensor, *, causal: bool) -> Tensor:
    """Mean cross entropy, in float32, of the positions whose label is not -100; causal: of the next token."""
    labels_BL = labels_BL.to(logits_BLV.device).long()
    if causal:
        logits_BLV, labels_BL = logits_BLV[:, :-1], labels_BL[:, 1:]
    return F.cross_entropy(logits_BLV.float().flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORED)


def hidden_states(model: GenomicModel) -> tuple[str, ...]:
    """Taps as transformers orders hidden states: the embeddings, every block, the last one after the final norm."""
    official = [name for name in model.tap_names if name.startswith("hidden_states.")]
    if official:  # the original code has such a list
        return tuple(sorted(official, key=lambda name: int(name.rpartition(".")[2])))
    blocks = block_taps(model.tap_names)
    first = [] if model.tap_names[0] in blocks else [model.tap_names[0]]
    return (*first, *blocks[:-1], model.last_hidden)


def _checked(value: object, shape: torch.Size, where: str) -> Tensor | None:
    if value is None:
        return None
    if not isinstance(value, Tensor) or value.shape != shape:
        shown = f"{tuple(value.shape)}" if isinstance(value, Tensor) else arguments.described(value)
        raise NexVarError(f"it is {shown}", where=where, fix=f"a tensor {tuple(shape)}, as the input")
    return value
