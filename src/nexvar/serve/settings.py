"""What the operator of a server chose; every value checked when it is made."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.weights.choice import ModelChoice
from nexvar.weights.hub import cache_dir

MB = 1_000_000
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9*]([\w.-]{0,252})|\[[0-9A-Fa-f:.]+\]")
_KEY = re.compile(r"[!-~]+")
_ORIGIN = re.compile(r"https?://[^/\s?#@]+")


def default_data_dir() -> Path:
    return cache_dir() / "serve"


@dataclass(frozen=True)
class Nim:
    """How the paths of NVIDIA's Evo 2 NIM answer.

    alphabet: "acgt": bases are drawn; "full": every token, as the NIM does. compress: /forward's archive.
    too_busy: a full queue is 422 "Too Busy", as the NIM says it, in place of 503. max_mb: of /forward's arrays.
    seconds: from a request's arrival to its end.
    """

    alphabet: str = "acgt"
    compress: bool = False
    too_busy: bool = False
    max_mb: int = 256
    seconds: float = 7200.0

    def __post_init__(self) -> None:
        arguments.one_of(self.alphabet, "--nim-alphabet", ("acgt", "full"))
        arguments.whole(self.max_mb, "--nim-max-mb", 1, 100_000)
        arguments.number(self.seconds, "--nim-seconds", "0.1 or more", 0.1, 1e9)

    @property
    def letters(self) -> str | None:
        """What ``Sampling`` takes as its alphabet."""
        return "ACGT" if self.alphabet == "acgt" else None


@dataclass(frozen=True)
class Settings:
    """models: the first is the default; none: the built-in one. allow_load: other cards are loaded when asked for.

    genomes: id -> FASTA; genes, known: id -> annotation, labelled variants; tracks: (id, name) -> file. The human
    mitochondrial genome, ``chrM``, is always there unless another genome has that id.
    taxonomy: NCBI's taxdump folder or a table, for prompts by species.
    host, port: where to listen. api_key: what every request must bring; needed off the loopback unless ``no_auth``.
    allowed_hosts: names that a Host header may give beside this machine's own. cors_origins: pages of other sites
    that may ask. docs: serve /openapi.json even where a key is needed.
    queue: requests that may wait for the model. seconds: from a request's arrival to its end. max_tokens: of one
    generation. max_body, max_upload: bytes of a JSON body, of an uploaded file.
    drain_seconds: after SIGTERM, how long ``ready`` says no before the server stops listening.
    data_dir: of files and jobs; data_gb: its size at most.
    calibration: a file of `nexvar calibrate`, for verdicts.
    allow_dirs: folders that tools of assistants (MCP) read files from, and write results to: the first.
    genos_tracks: what the RNA path of Genos sends; none: all tracks of a model that has few.
    """

    models: tuple[ModelChoice, ...] = (ModelChoice(),)
    allow_load: bool = False
    genomes: Mapping[str, Path] = field(default_factory=dict)
    genes: Mapping[str, Path] = field(default_factory=dict)
    known: Mapping[str, Path] = field(default_factory=dict)
    tracks: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    circular: tuple[str, ...] = ()
    taxonomy: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    no_auth: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    docs: bool = False
    queue: int = 64
    seconds: float = 120.0
    max_tokens: int = 4096
    max_body: int = 4 * MB
    max_upload: int = 512 * MB
    drain_seconds: float = 0.0
    data_dir: Path = field(default_factory=default_data_dir)
    data_gb: float = 20.0
    calibration: Path | None = None
    allow_dirs: tuple[Path, ...] = ()
    nim: Nim = Nim()
    genos_tracks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.models:
            raise NexVarError("no model", where="--model", fix="name one, or leave it out for the built-in one")
        for name, low, high in (
            ("port", 0, 65_535), ("queue", 1, 100_000), ("max_tokens", 1, 10_000_000), ("max_body", 1000, 1 << 30),
            ("max_upload", 1000, 1 << 50),
        ):  # fmt: skip
            arguments.whole(getattr(self, name), _option(name), low, high)
        for name, least in (("seconds", 0.1), ("drain_seconds", 0.0), ("data_gb", 0.001)):
            arguments.number(getattr(self, name), _option(name), f"{least:g} or more", least, 1e9)
        for name in ("genomes", "genes", "known"):
            for id_ in getattr(self, name):
                _check_id(id_, _option(name.removesuffix("s") if name == "genomes" else name))
        for id_, track in self.tracks:
            _check_id(id_, "--track")
            _check_id(track, "--track")
        for folder in self.allow_dirs:
            if not folder.is_dir():
                raise NexVarError(f"no folder {folder}", where="--allow-dir", fix="one that is there")
        for option, hosts in (("--host", (self.host,)), ("--allowed-host", self.allowed_hosts)):
            for host in hosts:
                if not _HOST.fullmatch(host) and not _is_address(host):
                    fix = "a name or an address, without port"
                    raise NexVarError(f"{host[:60]!r} is no host", where=option, fix=fix)
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                fix = "such as http://localhost:3000, without a path"
                raise NexVarError(f"{origin[:60]!r} is no origin", where="--cors-origin", fix=fix)
        if self.api_key is not None and not _KEY.fullmatch(self.api_key):
            what = "the key has other characters" if self.api_key else "the key is empty"
            raise NexVarError(what, where="--api-key", fix="printable ASCII, without blanks")
        if not self.local and self.api_key is None and not self.no_auth:
            raise NexVarError(
                f"anybody who reaches {self.host} could use this server",
                where="--host",
                fix="give a key (--api-key, or NEXVAR_API_KEY), or --no-auth if that is meant",
            )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or (
            _is_address(self.address) and ipaddress.ip_address(self.address).is_loopback
        )

    @property
    def address(self) -> str:
        """The host as a socket takes it: ``::1`` of ``[::1]``."""
        return self.host.strip("[]")

    @property
    def host_in_url(self) -> str:
        return f"[{self.address}]" if ":" in self.address else self.address

    @property
    def open_docs(self) -> bool:
        """Whether /openapi.json is served."""
        return self.docs or self.api_key is None


def by_id(given: list[str] | None, option: str) -> dict[str, Path]:
    """``hg38=/data/hg38.fa`` -> {id: path}; NexVarError for anything else, and for an id given twice."""
    found: dict[str, Path] = {}
    for text in given or []:
        id_, equals, path = text.partition("=")
        if not (equals and path):
            raise NexVarError(f"{text[:80]!r}", where=option, fix="ID=FILE, such as hg38=/data/hg38.fa")
        _check_id(id_, option)
        if id_ in found:
            raise NexVarError(f"{id_!r} twice", where=option, fix="each id once")
        found[id_] = Path(path)
    return found


def tracks_by_id(given: list[str] | None) -> dict[tuple[str, str], Path]:
    """``hg38:phyloP=x.bw`` -> {(id, name): path}."""
    found: dict[tuple[str, str], Path] = {}
    for text in given or []:
        names, equals, path = text.partition("=")
        id_, colon, name = names.partition(":")
        if not (equals and colon and path):
            raise NexVarError(f"{text[:80]!r}", where="--track", fix="ID:NAME=FILE, such as hg38:phyloP=/data/p.bw")
        _check_id(id_, "--track")
        _check_id(name, "--track")
        if (id_, name) in found:
            raise NexVarError(f"{names!r} twice", where="--track", fix="each name once")
        found[id_, name] = Path(path)
    return found


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_id(id_: str, option: str) -> None:
    if not _ID.fullmatch(id_):
        raise NexVarError(f"{id_[:60]!r} is no id", where=option, fix="letters, digits, '.', '_' and '-'")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
