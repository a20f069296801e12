"""The options that several verbs share, each declared once; those that travel together as a dataclass.

NOTE no heavy import here: the objects that the options become are made inside the verbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nexvar.paths import PARTS, Read, Write

if TYPE_CHECKING:
    from nexvar.inference.core.sampling import Sampling
    from nexvar.inference.options import Options
    from nexvar.runs.job import Placement
    from nexvar.weights.choice import ModelChoice


@dataclass(frozen=True)
class Reads:
    """Of an option: a file, a folder, or what may be one (a model's name). column: FILE:COLUMN. named: ID=FILE."""

    column: bool = False
    named: bool = False

    def of(self, value: object) -> Read:
        if self.named:
            return Read(str(value).partition("=")[2] or "-")
        return Read(str(value).rpartition(":")[0] or "-" if self.column else str(value))


@dataclass(frozen=True)
class Writes:
    """Of an option: where is written, see ``paths.Write``."""

    parts: bool = False
    tree: bool = False
    names: tuple[str, ...] = ()

    def of(self, value: object) -> Write:
        return Write(str(value), self.parts, self.tree, self.names)


@dataclass(frozen=True)
class Merges:
    """Of ``nexvar merge``: the output whose parts are read; what the run had read, its manifest knows."""

    def of(self, value: object) -> Read:
        return Read(f"{value}{PARTS}")


Model = Annotated[
    str | None, typer.Option(help="A model's name, alias or folder; `nexvar models` lists them."), Reads()
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
Dtype = Annotated[str, typer.Option(help="auto (the card's), float32, bfloat16, float16")]
Outputs = Annotated[
    list[Path] | None,
    typer.Option("-o", "--output", help=".vcf, .vcf.gz, .tsv, .parquet, .bw, .png (repeatable)"),
    Writes(parts=True),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="check, count and estimate time and memory; no model, nothing is written")
]
FastaOutput = Annotated[str, typer.Option("-o", "--output", help=".fa; - is standard output"), Writes()]
MergedBed = Annotated[
    Path | None, typer.Option("--bed", help="regions (0-based, half-open), merged; default: everything"), Reads()
]
Synonyms = Annotated[Path | None, typer.Option(help="table of contig names: the BED's, the FASTA's"), Reads()]
BatchTokens = Annotated[int | None, typer.Option(help="tokens in one forward; default: by device")]
Circular = Annotated[list[str] | None, typer.Option(help="a circular contig (repeatable); chrM is one")]
Shard = Annotated[str | None, typer.Option(help="i/n: every n-th part only; then `nexvar merge`")]
Workers = Annotated[
    int | None, typer.Option(help="processes, each with the model: one per GPU, or on the CPU; with ray: actors")
]
SpreadsheetSafe = Annotated[
    bool, typer.Option("--spreadsheet-safe", help="in a TSV, a ' before text that a spreadsheet takes for a formula")
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option("--calibration", help="of `nexvar calibrate`: adds probability and evidence"),
    Reads(),
]
Explain = Annotated[bool, typer.Option(help="say how many tokens were computed and how many were shared")]


@dataclass(frozen=True)
class LoadOptions:
    """How a model lies in memory."""

    device: Device = "auto"
    dtype: Dtype = "auto"
    quantize: Annotated[str | None, typer.Option(help="int8, int4 or nf4: large layers in 8 or 4 bits")] = None
    device_map: Annotated[
        str | None, typer.Option(help="auto: what does not fit the device lies in memory or on disk")
    ] = None

    def choice(self, model: str | None) -> ModelChoice:
        from nexvar.weights.choice import ModelChoice

        return ModelChoice(model, **vars(self))


@dataclass(frozen=True)
class ScoringOptions:
    """What a score is."""

    protocol: Annotated[str | None, typer.Option(help="a published protocol; `nexvar protocols` lists them")] = None
    window: Annotated[int | None, typer.Option(help="bases around a variant; default: the model's")] = None
    left: Annotated[int | None, typer.Option(help="of these, how many stand before the variant; default: half")] = None
    windowing: Annotated[
        str | None,
        typer.Option(
            help="centred; anchored: windows begin at multiples of --stride, variants share what is before them;"
            " tiled: variants share a window (another score, *_TILED); default: the model's"
        ),
    ] = None
    stride: Annotated[
        int | None, typer.Option(help="of anchored windows: bases between beginnings; default: half of what is behind")
    ] = None
    readout: Annotated[str | None, typer.Option(help="one or more, by comma; default: the model's")] = None
    strand: Annotated[str | None, typer.Option(help="both (averaged, each kept; the default) or forward")] = None
    layer: Annotated[str | None, typer.Option(help="of embedding readouts; default: the last hidden state")] = None
    pool: Annotated[
        str | None, typer.Option(help="of embeddings: mean (default), max, last, cls, site, site+N or flat")
    ] = None
    begin: Annotated[
        bool | None, typer.Option(help="the model's begin token before every window; default: the card's")
    ] = None
    span: Annotated[
        int | None, typer.Option(help="bases that count beside the allele: of pll on each side, of site behind it")
    ] = None
    batch_tokens: BatchTokens = None

    def options(self, max_ref_mismatch: float = 0.05) -> Options:
        from nexvar.inference.options import Options

        given = dict(vars(self))
        readout = given.pop("readout")
        readouts = None if readout is None else tuple(name.strip() for name in readout.split(","))
        return Options(**given, readouts=readouts, max_ref_mismatch=max_ref_mismatch)


@dataclass(frozen=True)
class PlacementOptions:
    """Where a run is computed."""

    shard: Shard = None
    workers: Workers = None
    engine: Annotated[str, typer.Option(help="local, or ray: actors of a cluster")] = "local"
    ray_address: Annotated[str | None, typer.Option(help="of a running cluster; default: one is started here")] = None
    cache: Annotated[
        Path | None, typer.Option(help="a folder that keeps pooled embeddings for other runs"), Writes(tree=True)
    ] = None
    cache_gb: Annotated[float, typer.Option(help="its size at most, in GB")] = 10.0

    def placement(self) -> Placement:
        from nexvar.runs.job import Placement, parse_shard

        shard = None if self.shard is None else parse_shard(self.shard)
        return Placement(**{**vars(self), "shard": shard})


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are drawn."""

    n_tokens: Annotated[int, typer.Option(help="new tokens, at most")] = 500
    temperature: float = 1.0
    top_k: Annotated[int, typer.Option(help="1 is greedy, 0 keeps all")] = 4
    top_p: float = 1.0
    alphabet: Annotated[str, typer.Option(help="letters that may be drawn; empty: every token")] = "ACGT"
    stop: Annotated[list[str] | None, typer.Option(help="text that ends a sequence (repeatable)")] = None

    def sampling(self) -> Sampling:
        from nexvar.inference.core.sampling import Sampling

        return Sampling(**{**vars(self), "alphabet": self.alphabet or None, "stop": tuple(self.stop or ())})
