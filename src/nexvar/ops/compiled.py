"""C sources of this folder, built once per machine when a C compiler is there, and run in torch's number of threads.

Nothing needs them: every caller has the same in plain torch. A library is built on first use (a second or two) and
kept in the user's cache folder.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

FLAGS = ("-O3", "-fopenmp-simd", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
FOR_THIS_MACHINE = ("-march=native", "-mcpu=native", "")  # compilers know one or the other, or neither
# Where torch is told to use less than the processor has, so does this: what others have is measured that way.
LESSER = {"avx2": "-march=x86-64-v3", "default": "-march=x86-64"}


def library(source: Path) -> ctypes.CDLL | str:
    """The library of a C file, or why there is none."""
    if platform.system() == "Windows":
        return "not built on Windows"
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
    if compiler is None:
        return "no C compiler (set CC, or install gcc or clang)"
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60).stdout
        machine = (processor(), os.environ.get("ATEN_CPU_CAPABILITY", ""))
        texts = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
        key = hashlib.sha256("\0".join((*texts, version, *FLAGS, *machine)).encode()).hexdigest()
        path = cache_folder() / f"{source.stem}-{key[:16]}.so"
        if not path.exists():
            _compile(compiler, source, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        return f"{compiler} failed: {error}"


def _compile(compiler: str, source: Path, path: Path) -> None:
    """Build the library; renamed into place, so that processes that build at once do not meet half a file."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        complaint = ""
        lesser = LESSER.get(os.environ.get("ATEN_CPU_CAPABILITY", ""))
        targets = (lesser, *FOR_THIS_MACHINE) if lesser else FOR_THIS_MACHINE
        for target in targets:
            command = [compiler, *FLAGS, *filter(None, [target]), "-fPIC", "-shared", "-o", str(built), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if done.returncode == 0:
                built.replace(path)
                return
            complaint = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]
    raise OSError(complaint)


def cache_folder() -> Path:
    """Where this machine keeps what it has built or measured; made if need be, OSError if it cannot be."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nexvar"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def processor() -> str:
    """What ``-march=native`` depends on: a cache folder may be shared by machines of different kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def in_threads(job: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """``job(*each)`` for all arguments, in torch's number of threads (ctypes frees the GIL)."""
    threads = min(torch.get_num_threads(), len(arguments))
    if threads <= 1:
        for each in arguments:
            job(*each)
    else:
        for done in [_pool(threads, os.getpid()).submit(job, *each) for each in arguments]:
            done.result()


@functools.cache
def _pool(threads: int, pid: int) -> ThreadPoolExecutor:
    """NOTE: keyed by process, since threads do not survive a fork and submitting to dead ones would hang."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"nexvar-{pid}")
