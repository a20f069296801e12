"""The models of a server: by name, loaded once; what else could be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from nexvar import cards
from nexvar.cards import Card
from nexvar.errors import NexVarError
from nexvar.serve.errors import Conflict, NotFound
from nexvar.serve.worker import Ticket
from nexvar.weights import machine
from nexvar.weights.choice import BUILT_IN, ModelChoice
from nexvar.weights.footprint import SHARE, footprint
from nexvar.weights.load import Loaded


class Models:
    """Loaded models by their card's name; the first is the default.

    allow_load: any other card is loaded when it is asked for, one at a time: the one that was loaded so before leaves.
    """

    def __init__(
        self,
        loaded: Iterable[Loaded],
        *,
        allow_load: bool = False,
        load: Callable[[str], Loaded] = lambda name: ModelChoice(name).load(),
    ) -> None:
        self.loaded = {each.card.name: each for each in loaded}
        self.allow_load, self._load = allow_load, load
        self._guest: str | None = None  # the one that was loaded on demand

    @classmethod
    def open(cls, choices: Iterable[ModelChoice], *, allow_load: bool = False) -> Models:
        """Load them all; NexVarError for what cannot be loaded, and for several that do not fit together."""
        choices = list(choices)
        _check_fit(choices)
        first = choices[0]

        def on_demand(name: str) -> Loaded:
            choice = ModelChoice(name, first.device, first.dtype, first.quantize, first.device_map)
            _check_fit([choice], at_least=1)
            return choice.load()

        return cls([choice.load() for choice in choices], allow_load=allow_load, load=on_demand)

    @property
    def default(self) -> str:
        return next(iter(self.loaded))

    def find(self, name: str | None, objective: str | None = None) -> str:
        """The card's name of a loaded model called ``name``, or of one that may be loaded.

        None: the first with this objective, or the first. Raises NotFound: no such model; Conflict: it is not loaded.
        """
        if name is None:
            fitting = (n for n, each in list(self.loaded.items()) if objective in (None, each.card.objective))
            return next(fitting, self.default)
        if name in self.loaded:
            return name
        if not cards.is_known(name):
            fix = f"one of {', '.join(self.loaded)}; GET /api/v1/models lists all"
            raise NotFound(f"no model {name[:60]!r}", where="model", fix=fix)
        card = cards.get(name)
        if card.name not in self.loaded and not self.allow_load:
            fix = f"loaded: {', '.join(self.loaded)}; or start the server with --model {card.name}"
            raise Conflict(f"{card.name} is not loaded", where="model", fix=fix)
        return card.name

    def get(self, name: str | None = None, objective: str | None = None) -> Loaded:
        """The model itself, loaded now if that is allowed. NOTE in the model thread only."""
        found = self.find(name, objective)
        if found not in self.loaded:
            self._make_room()
            self.loaded[found] = self._load(found)
            self._guest = found
        return self.loaded[found]

    @contextmanager
    def using(self, name: str | None, ticket: Ticket, objective: str | None = None) -> Iterator[Loaded]:
        """``get``, whose every forward first asks the ticket: work stops within a token or batch, whatever the verb."""
        loaded = self.get(name, objective)
        hook = loaded.module.register_forward_pre_hook(ticket.check)
        try:
            yield loaded
        finally:
            hook.remove()

    def _make_room(self) -> None:
        if self._guest is not None:
            del self.loaded[self._guest]
            self._guest = None
            machine.trim_heap()


def _check_fit(choices: list[ModelChoice], at_least: int = 2) -> None:
    """NexVarError where the cards among so many choices need more memory than is free."""
    named = [(_card(choice), choice) for choice in choices]
    if len(choices) < at_least:
        return
    needed = sum(
        footprint(card, dtype=None if choice.dtype == "auto" else choice.dtype, quantize=choice.quantize).total
        for card, choice in named
        if card is not None and choice.device_map is None
    )
    free = machine.free_memory()
    if needed > SHARE * free:
        what = f"they need about {machine.human_bytes(needed)}, {machine.human_bytes(free)} are free"
        raise NexVarError(what, where="--model", fix="fewer or smaller models, --dtype bfloat16, --quantize int8")


def _card(choice: ModelChoice) -> Card | None:
    """The card of a choice; None for a folder."""
    name = str(choice.source or BUILT_IN)
    return cards.get(name) if cards.is_known(name) else None
