"""Does a package's model keep the contract? ``python -m nexvar.evals.contract PACKAGE``: one line a check, exit code 1.

For the package of an entry point ``nexvar.models`` or ``nexvar.cards`` (CONTRIBUTING.md). Every card is built and
counted; then every architecture runs: the smallest card with weights beside it, else the smallest with fresh weights.
The same checks hold NexVar's own architectures, in tests/models/test_every_model.py.
"""

from __future__ import annotations

from nexvar import doors

if __name__ == "__main__":
    doors.catch_signals()

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from nexvar import cards, models, plugins, tokenizers
from nexvar.cards import Card
from nexvar.errors import NexVarError
from nexvar.evals.promises import MODEL_CHECKS, Broken, Inapplicable
from nexvar.inference import scorers
from nexvar.train.init import fresh
from nexvar.verify import parameter_count
from nexvar.weights import footprint
from nexvar.weights.assemble import build, make_config
from nexvar.weights.load import Loaded, load

LARGEST = 200_000_000  # parameters of a model that is run with fresh weights


@dataclass(frozen=True)
class Result:
    """One check. outcome: ok, FAIL or skipped."""

    subject: str
    name: str
    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:8}{self.subject}: {self.name}" + (f": {self.detail}" if self.detail else "")


def check(loaded: Loaded, one: Callable[[Loaded], None], subject: str) -> Result:
    """One of ``MODEL_CHECKS`` as a line; whatever a model raises is a failure."""
    name = (one.__doc__ or one.__name__).strip()
    try:
        one(loaded)
    except Inapplicable as reason:
        return Result(subject, name, "skipped", str(reason))
    except Exception as error:
        said = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        return Result(subject, name, "FAIL", " ".join(said.split())[:300])
    return Result(subject, name, "ok")


# -- a package


def of_card(card: Card) -> Iterator[Result]:
    """What a card says against the model that its values build."""

    def result(name: str, wrong: str, right: str = "") -> Result:
        return Result(card.label, name, "FAIL" if wrong else "ok", wrong or right)

    try:
        config = make_config(card.architecture, card.config, card.label)
        module = build(card.architecture, config, card.label)
        numbers = parameter_count(module)
        needed = footprint.footprint(card).total
        tokenizer = tokenizers.make(card.tokenizer, card.folder) if card.weights else None
    except Exception as error:
        said = str(error) if isinstance(error, NexVarError) else f"{type(error).__name__}: {error}"
        yield result("its values build a model", said)
        return
    yield result("its values build a model", "", f"{needed / 1e6:,.1f} MB with a window of {card.window:,}")
    different = f"{numbers:,}, the card says {card.parameters:,}"
    yield result("parameters", "" if numbers == card.parameters else different, f"{numbers:,}")
    if card.window > card.context:
        yield result("window", f"{card.window:,} bases, beyond the context of {card.context:,}")
    kind = "causal" if module.causal else "masked"
    yield result("objective", "" if kind == card.objective else f"{card.objective}, the model is {kind}", kind)
    wrong = scorers.MASKED if kind == "causal" else scorers.LIKELIHOOD
    known = card.readout in scorers.READOUTS and card.readout not in wrong
    yield result("readout", "" if known else f"{card.readout!r} is no readout of a {kind} model", card.readout)
    if tokenizer is not None:
        ids = tokenizer.tokenize("ACGTACGTACGT")
        text = tokenizer.detokenize(ids)
        wrong_text = "" if "ACGT" in text else f"ACGTACGTACGT reads back as {text[:40]!r}"
        if not wrong_text and max(ids) >= config.vocabulary:
            wrong_text = f"it gives token {max(ids)}, the model has {config.vocabulary}"
        yield result("tokenizer", wrong_text, card.tokenizer)


def to_run(architecture: str, own: list[Card]) -> tuple[str, Loaded]:
    """(what it is, the model to run): of the smallest card with weights beside it, else of the smallest card."""
    chosen = sorted(own, key=lambda card: (card.weights is None, card.parameters))
    if not chosen:
        raise Inapplicable(f"no card of this package is of {architecture}: nothing to run")
    card = chosen[0]
    if card.weights is not None:
        return card.label, load(card.name, device="cpu", dtype="float32")
    if card.parameters > LARGEST:
        raise Inapplicable(f"its smallest card {card.name} has {card.parameters:,} parameters and no weights beside it")
    config = make_config(architecture, card.config, card.label)
    module = fresh(architecture, config, seed=0).eval()
    tokenizer = tokenizers.make(card.tokenizer, None)
    return f"{card.label}, fresh weights", Loaded(module, tokenizer, card, torch.device("cpu"), torch.float32)


def of_package(package: str) -> Iterator[Result]:
    """Every check of an installed package; NexVarError if it offers nothing."""
    name = re.sub(r"[-_.]+", "-", package).lower()
    offered = [o for group in (plugins.MODELS, plugins.CARDS) for o in plugins.offers(group)]
    mine = [o for o in offered if name in (o.package, o.target.split(".")[0].replace("_", "-").lower())]
    if not mine:
        others = ", ".join(sorted({o.package for o in offered})) or "none does"
        what = f"it offers neither {plugins.MODELS} nor {plugins.CARDS}"
        raise NexVarError(what, where=f"package {package}", fix=f"is it installed? packages that do: {others}")
    packages = {o.package for o in mine}
    own = [card for card in cards.all_cards().values() if card.package in packages]
    for line in (line for p in sorted(packages) for line in plugins.said_of(p)):
        yield Result(line, "what it offers can be read", "FAIL")
    for card in own:
        yield from of_card(card)
    added = {o.name for o in mine if o in plugins.offers(plugins.MODELS)}
    for architecture in sorted(added | {card.architecture for card in own}):
        yield from of_architecture(architecture, [card for card in own if card.architecture == architecture])


def of_architecture(architecture: str, own: list[Card]) -> Iterator[Result]:
    """Its members, and what its model does."""
    subject = f"architecture {architecture}"
    try:
        arch = models.get(architecture)
        yield Result(subject, "has the members of the contract", "ok", f"from {arch.package or 'nexvar'}")
        subject, loaded = to_run(architecture, own)
    except Inapplicable as reason:
        yield Result(subject, "runs", "skipped", str(reason))
        return
    except Exception as error:
        said = str(error) if isinstance(error, NexVarError) else f"{type(error).__name__}: {error}"
        yield Result(subject, "can be had", "FAIL", said)
        return
    for one in MODEL_CHECKS:
        yield check(loaded, one, subject)


def main(arguments: list[str] | None = None) -> None:
    """Print a line a check; exit code 1 if one fails, 2 for bad input."""
    doors.run(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nexvar.evals.contract", description="Does a package keep it?")
    parser.add_argument("package", help="an installed package with an entry point nexvar.models or nexvar.cards")
    failed = 0
    for result in of_package(parser.parse_args(arguments).package):
        print(result, flush=True)
        failed += result.outcome == "FAIL"
    if failed:
        print(f"nexvar: {failed} check(s) failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    main()
