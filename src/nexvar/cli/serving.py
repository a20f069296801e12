"""nexvar serve, mcp."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexvar.cli._app import verb
from nexvar.cli.options import Circular, LoadOptions, Reads, Writes
from nexvar.errors import NexVarError

if TYPE_CHECKING:
    from nexvar.serve.settings import Nim, Settings


@dataclass(frozen=True)
class NimOptions:
    """How the paths of NVIDIA's Evo 2 NIM answer."""

    nim_alphabet: Annotated[str, typer.Option(help="acgt: bases only; full: every token, as the NIM draws")] = "acgt"
    nim_compress: Annotated[bool, typer.Option("--nim-compress", help="/forward: a smaller answer, slowly")] = False
    nim_too_busy: Annotated[
        bool, typer.Option("--nim-too-busy", help="a full queue is 422 Too Busy, as the NIM says it")
    ] = False
    nim_max_mb: Annotated[int, typer.Option(help="/forward: MB of all layers at most")] = 256
    nim_seconds: Annotated[float, typer.Option(help="a request of these paths ends after so long")] = 7200.0

    def nim(self) -> Nim:
        from nexvar.serve.settings import Nim

        return Nim(**{name.removeprefix("nim_"): value for name, value in vars(self).items()})


@dataclass(frozen=True)
class HeldOptions:
    """What a server holds, whoever asks it."""

    model: Annotated[
        list[str] | None, typer.Option(help="a model's name or folder (repeatable); default: the built-in one"), Reads()
    ] = None
    allow_load: Annotated[
        bool, typer.Option("--allow-load", help="other models are loaded, and downloaded, when asked for")
    ] = False
    genome: Annotated[
        list[str] | None, typer.Option(help="ID=FASTA (repeatable); chrM is built in"), Reads(named=True)
    ] = None
    genes: Annotated[
        list[str] | None, typer.Option(help="ID=FILE: GFF3, GTF or BED12 of a genome"), Reads(named=True)
    ] = None
    known: Annotated[
        list[str] | None, typer.Option(help="ID=FILE: labelled variants, such as ClinVar's VCF"), Reads(named=True)
    ] = None
    circular: Circular = None
    taxonomy: Annotated[
        Path | None, typer.Option(help="NCBI's taxdump folder or a table, for prompts by species"), Reads()
    ] = None
    allow_dir: Annotated[
        list[Path] | None,
        typer.Option(help="a folder whose files assistants' tools may read; results go to the first (repeatable)"),
        Reads(),
    ] = None
    seconds: Annotated[float, typer.Option(help="a request ends after so long")] = 120.0
    max_upload: Annotated[int, typer.Option(help="MB of an uploaded file at most")] = 512
    data_dir: Annotated[
        Path | None, typer.Option(help="of files and jobs; default: in NexVar's cache"), Writes(tree=True)
    ] = None
    data_gb: Annotated[float, typer.Option(help="its size at most, in GB")] = 20.0

    def settings(self, load: LoadOptions, default_data_dir: Path, **others: Any) -> Settings:
        from nexvar.serve.settings import Settings, by_id

        models: list[str | None] = [*self.model] if self.model else [None]
        return Settings(
            models=tuple(load.choice(name) for name in models),
            allow_load=self.allow_load,
            genomes=by_id(self.genome, "--genome"),
            genes=by_id(self.genes, "--genes"),
            known=by_id(self.known, "--known"),
            circular=tuple(self.circular or ()),
            taxonomy=self.taxonomy,
            allow_dirs=tuple(self.allow_dir or ()),
            seconds=self.seconds,
            max_upload=self.max_upload * 1_000_000,
            data_dir=self.data_dir or default_data_dir,
            data_gb=self.data_gb,
            **others,
        )


@verb()
def serve(
    *,
    held: HeldOptions,
    load: LoadOptions,
    track: Annotated[
        list[str] | None, typer.Option(help="ID:NAME=FILE: a bigWig or bedGraph (repeatable)"), Reads(named=True)
    ] = None,
    host: Annotated[str, typer.Option(help="other addresses than this machine's need a key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one")] = 8000,
    api_key: Annotated[str | None, typer.Option(envvar="NEXVAR_API_KEY", help="what every request must bring")] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="no key although others can reach it")] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="a name that clients call this server by (repeatable)")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="a page of another site that may ask (repeatable)")
    ] = None,
    docs: Annotated[bool, typer.Option("--docs", help="/openapi.json even where a key is needed")] = False,
    queue: Annotated[int, typer.Option(help="requests that may wait; more get 503")] = 64,
    max_tokens: Annotated[int, typer.Option(help="tokens of one generation at most")] = 4096,
    drain_seconds: Annotated[float, typer.Option(help="after SIGTERM, not ready for so long, then the end")] = 0.0,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", "--genos-variant", help="of `nexvar calibrate`: Genos' and the web pages' verdicts"
        ),
        Reads(),
    ] = None,
    nim: NimOptions,
    genos_track: Annotated[
        list[str] | None, typer.Option(help="a track that Genos' RNA requests get (repeatable); default: all, if few")
    ] = None,
) -> None:
    """Serve models over HTTP, on this machine: scores, embeddings, generation, jobs, a page. Nothing leaves it."""
    with _needs("serve"):
        from nexvar.serve.server import run
        from nexvar.serve.settings import default_data_dir, tracks_by_id

    settings = held.settings(
        load,
        default_data_dir(),
        tracks=tracks_by_id(track),
        host=host,
        port=port,
        api_key=api_key,
        no_auth=no_auth,
        allowed_hosts=tuple(allowed_host or ()),
        cors_origins=tuple(cors_origin or ()),
        docs=docs,
        queue=queue,
        max_tokens=max_tokens,
        drain_seconds=drain_seconds,
        calibration=calibration,
        nim=nim.nim(),
        genos_tracks=tuple(genos_track or ()),
    )
    raise typer.Exit(run(settings))


@verb()
def mcp(*, held: HeldOptions, load: LoadOptions) -> None:
    """Eight tools for an assistant on this machine (Model Context Protocol, stdio): variants, regions, embeddings."""
    with _needs("mcp"):
        from nexvar.serve.mcp import on_stdio
        from nexvar.weights.hub import cache_dir

    on_stdio(held.settings(load, cache_dir() / "mcp"))


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    """Around imports of what an extra brings."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "nexvar").partition(".")[0] == "nexvar":
            raise
        raise NexVarError(f"{error.name} is not installed", fix=f"pip install 'nexvar[{extra}]'") from None
