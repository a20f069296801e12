"""What a run starts from, fresh weights or a checkpoint, and the model folder that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from nexvar import models
from nexvar.cards import Card
from nexvar.errors import NexVarError
from nexvar.files import read_bytes, write_bytes
from nexvar.tokenizers import Tokenizer, make
from nexvar.train import state
from nexvar.train.init import fresh
from nexvar.train.recipe import Recipe
from nexvar.weights.assemble import build, make_config
from nexvar.weights.fingerprint import fingerprint
from nexvar.weights.hub import sha256
from nexvar.weights.load import Loaded, load, save

# What a checkpoint's card says that stays true of what is trained from it.
_KEPT = (
    "tokenizer", "objective", "readout", "span", "windowing", "special_tokens", "bos_id", "window", "species",
    "licence", "citation",
)  # fmt: skip


@dataclass
class Start:
    """A model to train; ``card`` is what its folder will say of itself; ``loaded`` is there with ``init`` or a task.

    contents: hash of the weights, by the recipe's key (identity.py).
    """

    architecture: str
    config: Any
    module: Any
    tokenizer: Tokenizer
    card: dict[str, Any]
    loaded: Loaded | None = None
    contents: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, device: torch.device) -> Start:
        m, context = recipe.model, recipe.stages[-1].length
        if m.init:
            loaded = load(m.init, device=device, dtype="float32")
            card = {name: getattr(loaded.card, name) for name in _KEPT if getattr(loaded.card, name) is not None}
            card["context"] = max(loaded.card.context, context)
            start = cls(
                loaded.card.architecture, loaded.module.config, loaded.module, loaded.tokenizer, card, loaded,
                {"model.init": fingerprint(loaded)},
            )  # fmt: skip
        else:
            config = make_config(m.architecture, m.config, "model.config")
            module = fresh(m.architecture, config, recipe.run.seed, m.init_std).to(device)
            tokenizer = make(m.tokenizer, Path(m.tokenizer_folder) if m.tokenizer_folder else None)
            start = cls(m.architecture, config, module, tokenizer, {"tokenizer": m.tokenizer, "context": context})
            if start.tokenizer_file is not None:
                start.contents["model.tokenizer_folder"] = sha256(start.tokenizer_file)
            if recipe.task is not None:
                start._for_a_task(Path(recipe.run.out).name, m.card, device)
        if recipe.task is None:
            start._check_objective(recipe.objective.kind)
            start.card["objective"] = recipe.objective.kind
        start.card |= m.card
        return start

    @property
    def tokenizer_file(self) -> Path | None:
        """What it was read from; None for one that needs no file."""
        path: Path | None = getattr(self.tokenizer, "path", None)
        return path

    def _for_a_task(self, name: str, told: Mapping[str, Any], device: torch.device) -> None:
        """A trunk alone: nobody trains its language-model head. told: what the recipe's [model.card] says."""
        for head in models.get(self.architecture).HEADS:
            if any(n.startswith(head) for n, _ in self.module.named_parameters()):
                self.module.drop(head)
        self.card["objective"] = "causal" if self.module.causal else "masked"
        values = {
            "licence": "as the folder says",
            "citation": "",
            "parity": "none",
            "parity_note": "",
            **self.card,
            **told,
        }
        count = sum(p.numel() for p in self.module.parameters())
        card = Card(name=name, architecture=self.architecture, parameters=count, config={}, **values)
        self.loaded = Loaded(self.module, self.tokenizer, card, device, torch.float32)

    def _check_objective(self, kind: str) -> None:
        if self.loaded is not None:
            self.loaded.need_head("an objective")
        if kind == "causal" and not self.module.causal:
            raise NexVarError(
                f"{self.architecture} reads both ways: it would see the token that it should predict",
                where="objective.kind",
                fix='kind = "masked"',
            )

    def write(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """A folder that ``NexVar`` loads; tensors: every parameter. Buffers are the module's own."""
        module, buffers = build(self.architecture, self.config), dict(self.module.named_buffers())
        for head in self.module.without:
            module.drop(head)
        every = {n: tensors[n] if n in tensors else buffers[n].detach() for n in module.state_dict()}
        module.load_state_dict(every, strict=True, assign=True)
        try:
            save(folder, module, architecture=self.architecture, config=self.config, card=self.card)
            if self.tokenizer_file is not None:
                write_bytes(folder / "tokenizer.json", read_bytes(self.tokenizer_file))
        except (OSError, SafetensorError) as error:
            raise state.unwritable(folder, error) from error
