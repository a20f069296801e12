"""Parity with the original code: ``python -m nexvar.evals.parity [FOLDER ...]`` (default: every tests/golden folder).

A golden folder holds a small checkpoint in its official layout (config.json, weights.safetensors) and io.safetensors,
what the original code computed from it. Each is loaded as a user would load it, in float32, and every case in it is
run and compared on real tokens. Names of the tensors of one case share a prefix or a suffix with its ``input_ids``:

    logits, hf.logits                         the logits
    hidden_states.N, last_hidden_state, norm  hidden states, in Hugging Face's order
    block_NN, embed.MODULE                    outputs of named modules
    attention_mask, mask, species_ids         further inputs
    tokens_nocache, greedy.output_ids         greedy continuation
    positions, *_at_positions                 long cases, recorded at some positions only
    hf.unet.down.0.skip, …                    levels of a U-Net over tokens, (B, C, positions); logits are of elements

Other tensors (caches, bfloat16 runs, JAX's numbering, losses) are the business of the tests of each family.
"""

from __future__ import annotations

from nexvar import doors

if __name__ == "__main__":
    doors.catch_signals()

import argparse
import inspect
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.files import read_json
from nexvar.models import block_taps
from nexvar.weights.load import load

TOLERANCE = 5e-4
Case = dict[str, Tensor]


@dataclass
class Parity:
    """The largest differences over every case of one folder; NaN where nothing was recorded."""

    folder: str
    architecture: str
    tolerance: float
    cases: int = 0
    logits: float = math.nan
    hidden: float = math.nan
    compared: set[str] = field(default_factory=set)  # taps that were compared
    greedy: list[bool] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Something was compared, all of it within the tolerance, every greedy token equal."""
        worst = [x for x in (self.logits, self.hidden) if not math.isnan(x)]
        return bool(worst) and max(worst) <= self.tolerance and all(self.greedy)


def split_cases(tensors: dict[str, Tensor]) -> dict[str, Case]:
    """{case: {name within the case: tensor}}, one for each ``input_ids``."""
    cases: dict[str, Case] = {}
    for key in tensors:
        head, found, tail = key.partition("input_ids")
        if found:
            members = {
                other[len(head) : len(other) - len(tail)]: tensor
                for other, tensor in tensors.items()
                if other.startswith(head) and other.endswith(tail) and len(other) > len(head) + len(tail)
            }
            cases[(head + tail).strip(".") or "all"] = members
    return cases


def expected_taps(case: Case, module: Any) -> dict[str, Tensor]:
    """{tap: what the original gave}."""
    blocks = block_taps(module.tap_names)
    expected: dict[str, Tensor] = {}
    states: dict[int, Tensor] = {}
    for name, tensor in case.items():
        if name.removeprefix("hf.") in module.tap_names:
            expected[name.removeprefix("hf.")] = tensor
        elif match := re.fullmatch(r"(?:hf\.)?hidden_states\.(\d+)", name):
            states[int(match[1])] = tensor
        elif match := re.fullmatch(r"block_(\d+)", name):
            expected[f"blocks.{int(match[1])}"] = tensor
        elif name.startswith("embed."):
            expected[name.removeprefix("embed.")] = tensor
        elif name in ("last_hidden_state", "hf.last_hidden_state", "norm"):
            expected[module.last_hidden] = tensor
    if states and len(states) - len(blocks) in (1, 2):  # the embedding, the blocks and, for some, the final norm
        expected.setdefault(module.last_hidden, states[max(states)])
        expected |= {blocks[i - 1]: state for i, state in states.items() if 0 < i < max(states)}
    return {name: tensor for name, tensor in expected.items() if name in module.tap_names}


def difference(ours: Tensor, theirs: Tensor, mask_BL: Tensor | None) -> float:
    """Largest absolute difference on real tokens; infinite if a value is not finite or the shapes differ."""
    if ours.shape != theirs.shape:
        return math.inf
    delta = (ours.double() - theirs.double()).abs()
    if mask_BL is not None:
        delta = delta[mask_BL]
    return float(delta.nan_to_num(nan=math.inf).max())


def greedy_tokens(module: Any, ids_BL: Tensor, count: int) -> Tensor:
    """The next ``count`` most likely tokens, decoded with the cache: (B, count)."""
    cache = module.new_cache(ids_BL.shape[0], ids_BL.shape[1] + count)
    new = []
    step = ids_BL
    for _ in range(count):
        step = module(step, cache=cache).logits[:, -1:].argmax(-1)
        new.append(step)
    return torch.cat(new, dim=1)


def _further_inputs(case: Case, module: nn.Module) -> dict[str, Tensor]:
    """Ids beside ``input_ids`` that the model's forward takes (``species_ids`` as ``species_ids_B``, …)."""
    accepted = {name.removesuffix("_B"): name for name in inspect.signature(module.forward).parameters}
    return {accepted[name]: ids for name, ids in case.items() if name.endswith("_ids") and name in accepted}


def compare(folder: Path, tolerance: float = TOLERANCE) -> Parity:
    """Load the folder's checkpoint in float32 and run every case."""
    folder = arguments.path(folder, "folder")
    tolerance = arguments.number(tolerance, "tolerance", "0 or more", 0)
    if not (folder / "io.safetensors").is_file():
        raise NexVarError("no io.safetensors in it", where=folder, fix="give a golden folder, see CONTRIBUTING.md")
    loaded = load(folder, device="cpu", dtype="float32")
    module: Any = loaded.module.eval()
    result = Parity(folder.name, loaded.card.architecture, tolerance)
    with torch.no_grad():
        for name, case in split_cases(load_file(folder / "io.safetensors")).items():
            if "levels" in inspect.signature(module.forward).parameters:
                _compare_elements(case, module, result, _rescaling(folder, name))
            else:
                _compare_case(case, module, result)
    return result


def _compare_case(case: Case, module: Any, result: Parity) -> None:
    """One recorded case run through our model; ``result`` keeps what differs most."""
    ids_BL = case["input_ids"].long()
    mask = case.get("attention_mask", case.get("mask"))
    mask_BL = None if mask is None else mask.bool()
    logits = case.get("logits", case.get("hf.logits"))
    taps = expected_taps(case, module)
    at = case.get("positions")
    if at is not None:
        logits = case.get("logits_at_positions")
        if "last_hidden_state_at_positions" in case:
            taps[module.last_hidden] = case["last_hidden_state_at_positions"]

    if logits is not None or taps:
        output = module(ids_BL, mask_BL=mask_BL, taps=tuple(taps), **_further_inputs(case, module))
        result.cases += 1
        result.compared |= set(taps)
        if logits is not None:
            ours = output.logits if at is None else output.logits[:, at]
            result.logits = _worse(result.logits, difference(ours, logits, mask_BL))
        for name, theirs in taps.items():
            ours = output.taps[name] if at is None else output.taps[name][:, at]
            result.hidden = _worse(result.hidden, difference(ours, theirs, mask_BL))
    for prompt, tokens in _continuations(case, ids_BL):
        result.greedy.append(torch.equal(greedy_tokens(module, prompt, tokens.shape[1]), tokens))


def _compare_elements(case: Case, module: Any, result: Parity, factor: float | None) -> None:
    """One case of a model whose logits are those of elements: all rows count, those of padding too, as in the original,
    where no mask means that padding is read."""
    ids_BL = case["input_ids"].long()
    mask_BL = case.get("attention_mask", torch.ones_like(ids_BL)).bool()
    taps = expected_taps(case, module)
    module.rescaling_factor = factor
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        output = module(ids_BL, mask_BL=mask_BL, taps=tuple(taps), levels=True)
    module.rescaling_factor = None
    if (logits := case.get("hf.logits")) is not None:
        result.logits = _worse(result.logits, difference(output.logits, logits, None))
    levels = {f"hf.unet.{name}": value.transpose(1, 2) for name, value in output.extras["unet"].items()}
    for name, ours in [*output.taps.items(), *levels.items()]:
        if (theirs := taps.get(name, case.get(name))) is not None:
            result.hidden = _worse(result.hidden, difference(ours, theirs, None))
            result.compared.add(name)
    result.cases += 1


def _rescaling(folder: Path, case: str) -> float | None:
    """The rotary rescaling factor that a case was recorded with, if meta.json knows another than the config's."""
    meta = read_json(folder / "meta.json") if (folder / "meta.json").is_file() else {}
    factor = meta.get("cases", {}).get(case, {}).get("rescaling_factor")
    return float(factor) if isinstance(factor, (int, float)) else None


def _continuations(case: Case, ids_BL: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    if "tokens_nocache" in case:  # NOTE tokens_cache holds the original's errors on short prompts
        yield ids_BL, case["tokens_nocache"]
    if "greedy.output_ids" in case:
        yield ids_BL[:1], case["greedy.output_ids"][:, ids_BL.shape[1] :]


def _worse(a: float, b: float) -> float:
    return b if math.isnan(a) else max(a, b)


def table(results: Sequence[Parity]) -> list[str]:
    """The results as lines of aligned text."""
    rows = [("folder", "architecture", "cases", "max |Δlogit|", "max |Δhidden|", "layers", "greedy", "within", "")]
    for r in results:
        greedy = f"{sum(r.greedy)}/{len(r.greedy)} equal" if r.greedy else "-"
        rows.append((
            r.folder, r.architecture, str(r.cases), _short(r.logits), _short(r.hidden), str(len(r.compared)), greedy,
            f"{r.tolerance:.0e}", "pass" if r.passed else "FAIL",
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1e}"


def golden_folders(root: Path) -> list[Path]:
    """The folders below ``root`` that hold a checkpoint and its outputs."""
    return sorted(p.parent for p in root.glob("*/io.safetensors") if (p.parent / "config.json").exists())


def main(arguments: list[str] | None = None) -> None:
    """Print the table; exit code 1 if a folder fails, 2 for bad input."""
    doors.run(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nexvar.evals.parity", description="Parity with the original code.")
    parser.add_argument("folders", nargs="*", type=Path, help="golden folders (default: tests/golden/*)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"largest difference ({TOLERANCE:g})")
    options = parser.parse_args(arguments)
    folders = options.folders or golden_folders(Path("tests/golden"))
    if not folders:
        raise NexVarError("no golden folders", where="tests/golden", fix="run it in the repository, or name folders")
    results = [compare(folder, options.tolerance) for folder in folders]
    print("\n".join(table(results)))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    main()
