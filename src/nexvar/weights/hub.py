"""Files of a card from the Hugging Face hub: pinned revision, listed files only, checked, converted once.

    card ─ hf_hub_download (resumes, shows progress, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE) ─ size, sha256 ─ folder
           torch files are rewritten as safetensors under $NEXVAR_CACHE (default ~/.cache/nexvar)

Nothing downloaded is executed, and nothing in the user's caches is ever deleted: a file that is not what its card
says stays where it is and is named.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from torch import Tensor

from nexvar.cards import Card, File
from nexvar.errors import NexVarError
from nexvar.files import at_home, open_regular, read_bytes, write_bytes
from nexvar.weights import checkpoint
from nexvar.weights.checkpoint import safetensors

# beside the weights, where the repository has them
SMALL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
)
WEIGHTS = (*checkpoint.INDEXES, *checkpoint.SINGLE)
COMMIT = "[0-9a-f]{40}"
LARGE = 256 * 1024 * 1024  # bytes from which hashing and converting show a progress bar


def cache_dir() -> Path:
    """$NEXVAR_CACHE, or ``nexvar`` in the user's cache folder."""
    if chosen := os.environ.get("NEXVAR_CACHE"):
        return at_home(chosen)
    return at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "nexvar"


def fetch(card: Card, revision: str | None = None) -> Path:
    """The folder of the hub's cache that holds the card's files, downloaded first where they are missing.

    revision: instead of the card's own; its checksums then do not apply.
    Raises NexVarError: no such repository, gated, offline, a cut connection, a wrong size or checksum.
    """
    if card.repo is None:
        raise NexVarError(f"{card.name} ships with the package", fix="there is nothing to download")
    pinned = revision is None or revision == card.revision
    wanted = revision or card.revision or "main"
    listed = {file.name: file for file in card.files}
    folder: Path | None = None
    for name in listed or (None,):
        path = _download(card, name, wanted) if name else _first(card, wanted)
        folder = path.parent
        if re.fullmatch(COMMIT, wanted) and folder.name != wanted:
            raise NexVarError(f"the server sent revision {folder.name[:80]}, not {wanted}", where=card.repo)
        wanted = folder.name  # a branch may move between two files
        if pinned and name:
            verify(listed[name], path)
        for shard in checkpoint.shards(path) if path.name in checkpoint.INDEXES else ():
            if shard not in listed:
                _download(card, shard, wanted)
    assert folder is not None
    for name in SMALL_FILES if card.tokenizer != "byte" else SMALL_FILES[:1]:
        if name not in listed:
            _download(card, name, wanted, optional=True)
    return folder


def read_weights(card: Card, folder: Path) -> dict[str, Tensor]:
    """The official tensors of a fetched folder. Torch files are converted once, where the disk has room for it."""
    files = _weight_files(card, folder)
    if all(parts[0].suffix == ".safetensors" for parts in files):
        return checkpoint.read_files(files)
    converted = cache_dir() / "converted" / f"{card.name}-{folder.name}.safetensors"
    stamp = converted.with_suffix(".stamp")
    if converted.is_file() and _is_stamped(stamp, converted):
        return checkpoint.read([converted])
    state = checkpoint.read_files(files)
    size = sum(t.numel() * t.dtype.itemsize for t in state.values())
    try:
        converted.parent.mkdir(parents=True, exist_ok=True)
        room = shutil.disk_usage(converted.parent).free
    except OSError:
        room = 0
    if room < size + LARGE:  # the torch file serves as well, it is only slower to open
        return state
    with _progress("converting to safetensors", size) as bar:
        safetensors.write(state, converted, {"format": "pt"}, progress=bar.update)
    _write_stamp(stamp, _identity(converted))
    return checkpoint.read([converted])


def _weight_files(card: Card, folder: Path) -> list[list[Path]]:
    """The card's own weight files; a snapshot folder may hold others that were downloaded for other reasons."""
    names = [file.name for file in card.files]
    for name in names:
        if name in checkpoint.INDEXES:
            return [[folder / shard] for shard in checkpoint.shards(folder / name)]
    if parts := checkpoint.group_parts(names, folder):
        return [[folder / part for part in group] for group in parts.values()]
    weights = [[folder / name] for name in names if name.endswith((".safetensors", ".bin", ".pt", ".ckpt"))]
    return weights or checkpoint.find_weights(folder)


# -- download


def _first(card: Card, revision: str) -> Path:
    """For cards that list no files: the first well-known weight file that the repository has."""
    for name in WEIGHTS:
        path = _download(card, name, revision, optional=True)
        if path is not None:
            return path
    raise NexVarError(f"no weights: none of {', '.join(WEIGHTS)}", where=f"{card.repo}@{revision}")


def _download(card: Card, name: str, revision: str, optional: bool = False) -> Any:
    """The path of one file of the hub's cache; None where an optional one does not exist."""
    try:
        from huggingface_hub import _CACHED_NO_EXIST, errors, hf_hub_download, hf_hub_url, try_to_load_from_cache
    except ValueError as error:  # it reads the variable where it is imported
        raise NexVarError(
            f"no address of a hub ({error})", where="HF_ENDPOINT", fix="such as https://huggingface.co"
        ) from error

    if re.fullmatch(COMMIT, revision):  # a commit never changes: no need to ask the server again
        cached = try_to_load_from_cache(str(card.repo), name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        if cached is _CACHED_NO_EXIST and optional:
            return None
    network = (getattr(errors, "HTTPError", OSError), getattr(errors, "XetDownloadError", OSError))
    where = f"{card.repo}@{revision}: {name}"
    offline = _why_offline(hf_hub_url(str(card.repo), name))
    try:
        with _quiet():
            path = Path(hf_hub_download(str(card.repo), name, revision=revision, local_files_only=offline is not None))
    except errors.GatedRepoError:
        what, fix = "the repository is gated", "accept its licence on the hub, then `hf auth login`"
    except errors.RevisionNotFoundError:
        what, fix = "no such revision", "give an existing one"
    except errors.RepositoryNotFoundError:
        what, fix = "no such repository, or it is private", "`hf auth login` if it is yours"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        if optional:
            return None
        what = f"not in the cache, and {offline or 'the server cannot be reached'}"
        fix = f"run `nexvar fetch {card.name}` with a connection, or load a folder"
    except errors.EntryNotFoundError:
        if optional:
            return None
        what, fix = "the repository has no such file", "another revision?"
    except (OSError, ValueError, *network) as error:
        what, fix = f"the download failed ({' '.join(str(error).split())[:200]})", "run it again: it resumes"
    else:
        return path
    raise NexVarError(what, where=where, fix=fix)


def _why_offline(url: str) -> str | None:
    """Why no server can be asked, known at once; None where one can. What it is for: huggingface_hub tries a name that
    cannot be resolved six times over 23 seconds."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "offline (HF_HUB_OFFLINE)"
    server = urlsplit(url)
    proxies = {} if proxy_bypass(server.hostname or "") else getproxies()
    proxy = proxies.get(server.scheme) or proxies.get("all")
    asked = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else server
    try:
        port = asked.port or {"https": 443, "http": 80}.get(asked.scheme, 1080)
        _reach(asked.hostname or "", port, constants.HF_HUB_ETAG_TIMEOUT)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return f"{asked.netloc or constants.ENDPOINT} cannot be reached ({reason or error or 'no answer'})"
    return None


@cache  # a failure is not kept
def _reach(host: str, port: int, timeout: float) -> None:
    socket.create_connection((host, port), timeout).close()


@contextmanager
def _quiet() -> Iterator[None]:
    """huggingface_hub's own log lines are left out: what went wrong is told in one line of ours."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


# -- upload


def check_repository(name: str) -> str:
    """``name`` if it may be a repository of the hub: OWNER/NAME."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", name) or ".." in name or "--" in name:
        raise NexVarError(f"no repository {name[:80]!r}", where="--push-to-hub", fix="OWNER/NAME")
    return name


def push(folder: Path, repository: str) -> str:
    """Upload a folder's files in one commit; returns the repository's address.

    A repository that does not exist is made, private. The token is the hub's own: HF_TOKEN, or `hf auth login`.
    """
    check_repository(repository)
    from huggingface_hub import HfApi, constants, errors

    network = (getattr(errors, "HTTPError", OSError), getattr(errors, "XetUploadError", OSError))
    if reason := _why_offline(constants.ENDPOINT):
        raise NexVarError(f"not uploaded: {reason}", where=repository, fix=f"{folder} is there: upload it later")
    try:
        with _quiet():
            api = HfApi(endpoint=constants.ENDPOINT)
            api.create_repo(repository, private=True, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Exported by NexVar")
    except (OSError, ValueError, KeyError, TypeError, *network) as error:  # the latter: no hub answers there
        reason = " ".join(str(error).split())[:200]
        fix = f"is the token yours, and may it write (`hf auth login`)? {folder} is there: upload it again"
        raise NexVarError(f"the upload failed ({reason})", where=repository, fix=fix) from error
    return f"{constants.ENDPOINT}/{repository}"


# -- verify


def verify(file: File, path: Path) -> None:
    """Compare a file's size and sha256 with the card's; NexVarError names both. A file is hashed only once."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise NexVarError(
            f"{size} bytes, the card says {file.size}", where=path, fix="delete it and fetch again, or give revision="
        )
    if file.sha256 is None:
        return
    stamp = cache_dir() / "verified" / file.sha256
    if _is_stamped(stamp, path):
        return
    before = _identity(path)
    digest = sha256(path)
    if digest != file.sha256:
        raise NexVarError(
            f"sha256 is {digest}, the card says {file.sha256}",
            where=path,
            fix="delete it and fetch again, or give revision=",
        )
    _write_stamp(stamp, before)


def _identity(path: Path) -> str:
    """What changes whenever the file does: its size and times, of which nobody can set ctime, and its inode."""
    info = path.stat()
    return f"{path.resolve()} {info.st_size} {info.st_mtime_ns} {info.st_ctime_ns} {info.st_dev} {info.st_ino}"


def _is_stamped(stamp: Path, path: Path) -> bool:
    """Whether ``path`` is as it was when it was stamped; a stamp that cannot be read only costs the work again."""
    try:
        return read_bytes(stamp, limit=10_000) == os.fsencode(_identity(path))
    except (NexVarError, OSError):
        return False


def _write_stamp(stamp: Path, identity: str) -> None:
    with suppress(NexVarError, OSError):  # a read-only cache only costs the work again
        stamp.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(stamp, os.fsencode(identity))


def sha256(path: Path) -> str:
    """The file's checksum, 64 hex digits."""
    digest = hashlib.sha256()
    with open_regular(path, empty_ok=True) as file, _progress(f"checking {path.name}", path.stat().st_size) as bar:
        while block := file.read(1 << 22):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _progress(what: str, size: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=size, desc=what, unit="B", unit_scale=True, disable=size < LARGE)
