"""Sequences out of a model into a FASTA: generated after prompts, or with their N filled in. Written atomically."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nexvar.errors import NexVarError
from nexvar.files import disk_errors, replacing
from nexvar.genome.reference import Fasta
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.core.tags import Taxonomy
from nexvar.inference.fill import fill
from nexvar.inference.generate import generate, left_out_line
from nexvar.runs.output import check_output
from nexvar.weights.load import Loaded

ENDINGS = (".fa", ".fasta", ".fna", "-")
WIDTH = 80  # letters of a line
_TAG = re.compile(r"\|[^|]*\|")
_NO_LETTER = re.compile(r"[^A-Za-z]")  # ">", blanks and control characters would end a line or begin a record


def read_prompts(
    prompts: Sequence[str],
    fasta: str | Path | None,
    taxonomy: str | Path | None = None,
    species: str | None = None,
) -> dict[str, str]:
    """{name: prompt}, typed ones first. species: its phylogenetic tag, from ``taxonomy``, goes before each prompt."""
    named = {f"prompt{i}": text for i, text in enumerate(prompts, start=1)}
    if fasta is not None:
        genome = Fasta(fasta)
        named |= {name: genome.fetch(name, *genome.span(name)) for name in genome.contigs}
    if (taxonomy is None) != (species is None):
        raise NexVarError("a tag needs --taxonomy and --species", where="--species", fix="give both")
    tag = Taxonomy(taxonomy).tag(species) if taxonomy is not None and species is not None else ""
    if not named and tag:
        named = {"tag": ""}
    if not named:
        raise NexVarError("no prompt", where="--prompt", fix="give --prompt ACGT… or --fasta prompts.fa")
    return {name: tag + text for name, text in named.items()}


def generate_file(
    loaded: Loaded,
    prompts: dict[str, str],
    output: str | Path,
    sampling: Sampling,
    *,
    n: int = 1,
    seed: int | None = None,
    with_prompt: bool = False,
    progress: bool = False,
) -> list[str]:
    """``n`` sequences after each prompt, to a FASTA ("-": standard output); a line for people.

    The header tells the model, the seed and the mean log-probability; ``--seed`` of one of them makes it again.
    with_prompt: the prompt too, without its tag, which is no sequence.
    """
    if n < 1:
        raise NexVarError(f"n is {n}", where="--n", fix="1 or more")
    check_output(output, endings=ENDINGS)
    first = secrets.randbits(32) if seed is None else seed
    names = [(name, copy) for name in prompts for copy in range(n)]
    result = generate(loaded, [prompts[name] for name, _ in names], sampling, seed=first, progress=progress)
    texts = [
        (_TAG.sub("", prompts[name]) if with_prompt else "") + text
        for (name, _), text in zip(names, result.sequences, strict=True)
    ]
    records = (
        (
            f"{name}_{copy + 1} model={loaded.card.name} seed={first + copy} mean_log_prob={logprob:.4f}"
            + (f" stopped={_in_a_header(stopped)}" if stopped is not None else ""),
            _NO_LETTER.sub("", text),
        )
        for (name, copy), text, logprob, stopped in zip(names, texts, result.logprobs_mean, result.stopped, strict=True)
    )
    write_fasta(output, records)
    lines = [f"{len(names):,} sequences after {len(prompts):,} prompts, seed {first}"]
    if lost := left_out_line(result, "--alphabet ''"):
        lines.append(lost)
    if odd := sum(len(_NO_LETTER.findall(text)) for text in texts):
        lines.append(f"{odd:,} characters that are no letters are left out of the FASTA, which holds letters only")
    return lines


def _in_a_header(stopped: str | int) -> str:
    """What ended a sequence, as one word of a header line."""
    return str(stopped) if str(stopped).isalnum() else repr(stopped).replace(" ", r"\x20")


def fill_file(
    loaded: Loaded,
    fasta: str | Path,
    output: str | Path,
    *,
    steps: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """Every record of a FASTA with its N filled in; records without any N are copied. IUPAC codes are refused."""
    check_output(output, [fasta], ENDINGS)
    fill(loaded, [], steps=steps, temperature=temperature)  # raises for a causal model and for bad options
    genome = Fasta(fasta)
    filled = 0

    def records() -> Iterator[tuple[str, str]]:
        nonlocal filled
        for name in genome.contigs:
            text = genome.fetch(name, *genome.span(name))
            if "N" not in text:
                yield name, text
                continue
            (result,) = fill(loaded, [text], steps=steps, temperature=temperature, seed=seed)
            filled += len(result.positions)
            about = f"filled={len(result.positions)} score={result.score:.4f} model={loaded.card.name}"
            yield f"{name} {about}", result.sequence

    write_fasta(output, records())
    return [f"{filled:,} N filled in {len(genome.contigs):,} records"]


def write_fasta(output: str | Path, records: Iterable[tuple[str, str]]) -> None:
    """Records as (header, sequence). The file appears when it is whole; "-" is standard output."""
    with _sink(output) as file:
        for header, text in records:
            lines = (text[i : i + WIDTH] for i in range(0, len(text), WIDTH))
            file.write(f">{header}\n" + "".join(f"{line}\n" for line in lines))


@contextmanager
def _sink(output: str | Path) -> Iterator[IO[str]]:
    if str(output) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    path = Path(output)
    with replacing(path) as new, disk_errors(path), new.open("w", encoding="utf-8", newline="\n") as file:
        yield file
