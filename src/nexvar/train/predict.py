"""What a fine-tuning run wrote, ready to use: a model's folder with ``head.safetensors`` and ``task.json`` beside it.

Predictor(folder).predict(["ACGT…"])      one dictionary a sequence, or one a base
predict_file(folder, fasta, output)       .tsv, .parquet; tasks of every base also .bw
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar import arguments, files
from nexvar.errors import NexVarError
from nexvar.files import check_inside, write_atomically
from nexvar.genome.bigwig import write_bigwig
from nexvar.genome.reference import Fasta
from nexvar.inference.attribution.reading import Reading
from nexvar.inference.attribution.target import Target, View, named
from nexvar.inference.core.batching import equal_batches
from nexvar.inference.core.sequences import clean, encoding
from nexvar.inference.track_model import FACTS as TRACKS
from nexvar.models import Output
from nexvar.paths import Read, Write, check_apart
from nexvar.train import heads
from nexvar.train.kinds import KINDS, Classification, Kind, Regression, from_facts
from nexvar.weights import checkpoint
from nexvar.weights.assemble import all_finite
from nexvar.weights.load import load
from nexvar.weights.typed import json_values

GIVE = "give the model folder of a [task] run"
ENDINGS = (".tsv", ".parquet", ".bw")


@dataclass(frozen=True)
class Facts:
    """What task.json says. names: classes, labels or targets. centre, scale: of each target of a regression."""

    kind: str
    per: str
    pool: str
    names: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def read(cls, path: Path) -> Facts:
        """NexVarError for a file that no fine-tuning run wrote."""
        tracks = path.with_name(TRACKS).is_file() and not path.is_file()
        fix = "nexvar tracks --model this folder" if tracks else GIVE
        facts = cls(**json_values(cls, path, "no fine-tuned head", fix))
        numbers = len(facts.names) if facts.kind == Regression.KIND else 0
        sound = facts.kind in KINDS and facts.pool in heads.POOLS and facts.per in ("sequence", "base")
        if not (sound and len(facts.centre) == len(facts.scale) == numbers and facts.names):
            of = f"kind {facts.kind!r}, pool {facts.pool!r}, per {facts.per!r} and {len(facts.names)} names"
            what = f"no head is of {of}"
            raise NexVarError(what, where=path, fix=GIVE)
        return facts

    @property
    def meaning(self) -> Kind:
        return from_facts(self.kind, self.names, {"centre": self.centre, "scale": self.scale})


class Predictor:
    """What a fine-tuning run wrote. head: what made the head, where it is not the linear one (``pretrain``).

    >>> Predictor("runs/promoters/model").predict(["ACGT…"])          # doctest: +SKIP
    [{'label': 'promoter', 'no': 0.02, 'promoter': 0.98}]
    """

    def __init__(self, folder: str | Path, device: str = "auto", *, head: heads.HeadMaker = heads.linear) -> None:
        folder = arguments.path(folder, "folder")
        self.facts = Facts.read(folder / "task.json")
        self.kind = self.facts.meaning
        weights = read_head(folder / "head.safetensors")
        self.loaded = load(folder, device=device)
        self.per_base = self.facts.per == "base"
        self.model = heads.TaskModel(
            self.loaded, self.kind.outputs, self.facts.pool, per_base=self.per_base, freeze=True, head=head
        ).eval()
        try:
            self.model.head.load_state_dict(weights)
        except RuntimeError as error:
            fix = "Predictor(folder, head=…) for a head of your own"
            raise NexVarError("the head is of another model", where=folder / "head.safetensors", fix=fix) from error
        self.model.head.to(self.loaded.device)

    def predict(
        self, seqs: Sequence[str], batch_tokens: int = 1 << 14, *, sites: Sequence[int] | None = None
    ) -> list[Any]:
        """For each sequence a dictionary, or, where every base had its label, a list with one for each base.

        {"label": …, class: probability, …}, {label: probability, …}, {"value": …} or {target: value, …}.
        sites: the 0-based base of each sequence that pool "site" reads; by default the middle.
        """
        batch_tokens = arguments.whole(batch_tokens, "batch_tokens", 1)
        given = arguments.a_list(seqs, "seqs")
        texts = [clean(self.loaded, text, f"seqs[{i}]") for i, text in enumerate(given)]
        middles = [len(text) // 2 for text in texts] if sites is None else _sites(sites, texts)
        if self.per_base:
            tokens = [heads.tokens_of_bases(self.loaded, text) for text in texts]
        else:
            pooling = self.facts.pool
            tokens = [heads.tokens_of(self.loaded, t, pooling, site) for t, site in zip(texts, middles, strict=True)]
        said = []
        for i, out_NK in enumerate(self.outputs(tokens, batch_tokens)):
            rows = [self.kind.said(out_K) for out_K in out_NK]
            if not all_finite(out_NK) or any(v != v or abs(v) == float("inf") for v in rows[0].values() if v != str(v)):
                what = "the head makes no finite number of it"
                raise NexVarError(what, where=f"seqs[{i}]", fix="train it again; are its weights absurdly large?")
            said.append(rows if self.per_base else rows[0])
        return said

    def target(self, name: str | None = None, site: int | None = None) -> Target:
        """One output of the head as what ``inference.attribution`` explains: of a class its logit, of a regression the
        value. name: None where there is one output alone. site: the 0-based base that is read, where the head reads
        one; by default the middle."""
        if name is None and len(self.facts.names) > 1:
            what = f"the head has {len(self.facts.names)} outputs"
            raise NexVarError(what, where="target", fix=f"one of {', '.join(self.facts.names[:20])}")
        k = 0 if name is None else named(self.facts.names, name, "output")
        scale, centre = (self.facts.scale[k], self.facts.centre[k]) if self.facts.scale else (1.0, 0.0)

        def views(reading: Reading) -> list[View]:
            at, text = len(reading.text) // 2 if site is None else site, reading.text
            if self.per_base:
                reads = heads.tokens_of_bases(self.loaded, text).reads[at : at + 1]
            else:
                reads = heads.tokens_of(self.loaded, text, self.facts.pool, at).reads
            before = len(reading.ids_T) - len(encoding(self.loaded, text).ids)  # a begin token

            def number(output: Output) -> Tensor:
                hidden_1TD = output.taps[self.model.layer][None, before:]
                out_NK = self.model.of_hidden(hidden_1TD, [reads], len(reading.ids_T) - before)
                return out_NK[0, k] * scale + centre

            return [View(number)]

        label = self.facts.names[k]
        return Target(f"output {label}", views, taps=(self.model.layer,), logits=False)

    @torch.no_grad()
    def outputs(self, tokens: Sequence[heads.Tokens], batch_tokens: int = 1 << 14) -> list[Tensor]:
        """(1, outputs) of each sequence, or (bases, outputs); float32 on the CPU."""
        made: list[Tensor] = [torch.empty(0)] * len(tokens)
        lengths = [len(row.ids) for row in tokens]
        for batch in equal_batches(lengths, batch_tokens, pads=self.loaded.module.pads_safely):
            out_NK = heads.outputs(self.model, self.loaded, [tokens[i] for i in batch], False).float().cpu()
            counts = [len(tokens[i].reads) if self.per_base else 1 for i in batch]
            for i, part in zip(batch, out_NK.split(counts), strict=True):
                made[i] = part
        return made


def _sites(sites: Sequence[int], texts: Sequence[str]) -> list[int]:
    """NexVarError unless they are a base of each sequence."""
    given = arguments.a_list(sites, "sites", "0-based bases")
    if len(given) != len(texts):
        raise NexVarError(f"{len(given)} sites of {len(texts)} sequences", where="sites", fix="one for each")
    return [
        arguments.whole(site, f"sites[{i}]", 0, len(text) - 1)
        for i, (site, text) in enumerate(zip(given, texts, strict=True))
    ]


def read_head(path: Path) -> dict[str, Tensor]:
    """The head's tensors, finite; NexVarError where there is no sound file."""
    head = checkpoint.read([check_inside(path)])
    for name, tensor in head.items():
        if not tensor.is_floating_point() or not all_finite(tensor):
            raise NexVarError(f"{name[:80]} holds NaN, infinite or whole numbers", where=path, fix="a damaged head")
    return {name: tensor.float() for name, tensor in head.items()}


# -- files


def predict_file(
    folder: Path, fasta: Path, output: Path, *, device: str = "auto", spreadsheet_safe: bool = False
) -> str:
    """``Predictor.predict`` for every record of a FASTA, to a file written atomically; a line for people.

    .tsv, .parquet: a row a sequence, or a base (``pos`` 1-based). .bw, of tasks with a label for every base: the value,
    or with ``out.NAME.bw`` that target's value or that class's probability.
    spreadsheet_safe: text that begins like a formula gets a ' before it.
    """
    check_apart([Read(folder), Read(fasta)], [Write(output)])
    if output.suffix not in ENDINGS:
        kind = output.suffix or "a file without an ending"
        raise NexVarError(f"cannot write {kind}", where=output, fix=f"name it {', '.join(ENDINGS)}")
    predictor, genome = Predictor(folder, device), Fasta(fasta)
    column = _track(predictor, output) if output.suffix == ".bw" else ""
    names = genome.contigs
    said = predictor.predict([genome.fetch(name, *genome.span(name)) for name in names])
    rows = [(name, pos, row) for name, rows in zip(names, said, strict=True)
            for pos, row in enumerate(rows if predictor.per_base else [rows], 1)]  # fmt: skip
    with write_atomically(output) as unfinished:
        if output.suffix == ".bw":
            lengths = {name: len(each) for name, each in zip(names, said, strict=True)}
            write_bigwig(unfinished, output, lengths, _values(rows, column))
        elif output.suffix == ".parquet":
            _write_parquet(unfinished, rows, predictor.per_base)
        else:
            _write_tsv(unfinished, rows, predictor.per_base, spreadsheet_safe)
    return f"{len(names)} sequences{f', {len(rows):,} bases' if predictor.per_base else ''} -> {output}"


Row = tuple[str, int, Mapping[str, Any]]  # name, 1-based position, what is said


def _track(predictor: Predictor, output: Path) -> str:
    """The column that a bigWig of this name shows."""
    if find_spec("pybigtools") is None:
        raise NexVarError("pybigtools is not installed", where=output, fix="pip install 'nexvar[tracks]'")
    if not predictor.per_base:
        raise NexVarError("one label a sequence is no track", where=output, fix=".tsv or .parquet")
    names = predictor.kind.names
    asked = output.suffixes[-2][1:] if len(output.suffixes) > 1 else ""
    if asked in names:
        return asked if len(names) > 1 or isinstance(predictor.kind, Classification) else "value"
    if len(names) == 1:
        return "value" if isinstance(predictor.kind, Regression) else names[0]
    raise NexVarError(f"{len(names)} tracks", where=output, fix=f"name it {output.stem}.{names[0]}.bw, one a file")


def _values(rows: Sequence[Row], column: str) -> Iterator[tuple[str, int, int, float]]:
    """Sorted as bigWigs are: by contig as the file has them."""
    for name, pos, row in sorted(rows, key=lambda row: (row[0].encode(), row[1])):
        yield name, pos - 1, pos, float(row[column])


def _write_tsv(path: Path, rows: Sequence[Row], per_base: bool, safe: bool) -> None:
    text = files.spreadsheet_safe if safe else str
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["name", *(["pos"] if per_base else []), *map(text, rows[0][2])])
        for name, pos, row in rows:
            values = [f"{v:.6g}" if isinstance(v, float) else text(v) for v in row.values()]
            writer.writerow([text(name), *([pos] if per_base else []), *values])


def _write_parquet(path: Path, rows: Sequence[Row], per_base: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {"name": [name for name, _, _ in rows]}
    if per_base:
        columns["pos"] = [pos for _, pos, _ in rows]
    for column in rows[0][2]:
        columns[column] = [row[column] for _, _, row in rows]
    pq.write_table(pa.table(columns), path)
