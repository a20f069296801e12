"""What this installation has, and whether it works: what one pastes into a bug report (``nexvar doctor``).

    Python, processor, memory ── torch, GPUs, compiled products ── extras ── folders, environment ── the built-in model

Nothing is downloaded. Names of keys are shown, never their values; the home folder is written ``~``.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

import nexvar
from nexvar.errors import NexVarError
from nexvar.ops import arithmetic, compiled, matvec, ssm_scan_cpu, ssm_scan_triton
from nexvar.oracles import Check
from nexvar.verify import verify
from nexvar.weights import hub, machine

BUILT_IN = "nexvar_mito"
VARIABLES = re.compile("NEXVAR_|HF_|CUDA_VISIBLE_DEVICES|OMP_|MKL_|ATEN_CPU_CAPABILITY|PYTORCH_")
SECRET = re.compile("KEY|TOKEN|SECRET|PASSWORD")
NO_VERBS = {"all", "dev", "docs"}  # sets of extras, and what only a developer needs


def examine() -> Iterator[Check]:
    """One line a subject, as it is found: ``outcome`` is "ok", "missing" (something optional), or "FAIL"."""
    yield Check("nexvar", "ok", f"{nexvar.__version__} in {_home(Path(nexvar.__file__).parent)}")
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield Check("processor", "ok", f"{_processor()}; {_cores()}")
    yield Check("memory", "ok", f"{machine.human_bytes(machine.free_memory(torch.device('cpu')))} free")
    yield from _torch()
    yield from _extras()
    yield from _folders()
    if shown := _environment():
        yield Check("environment", "ok", shown)
    yield _built_in()


def _torch() -> Iterator[Check]:
    yield Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    gpus = [
        f"{torch.cuda.get_device_name(i)} ({machine.human_bytes(torch.cuda.mem_get_info(i)[0])} free)"
        for i in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        gpus.append("Apple MPS")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    yield Check("gpu", "ok" if gpus else "missing", ", ".join(gpus) or f"torch sees none; it is {built}")
    try:
        yield Check("bfloat16", "ok", f"its products are computed in {arithmetic.cpu_products()} on the CPU")
    except NexVarError as error:
        yield Check("bfloat16", "FAIL", str(error))
    kernels = {"products": matvec, "scan": ssm_scan_cpu} | ({"Triton scan": ssm_scan_triton} if gpus else {})
    for name, kernel in kernels.items():
        works = kernel.available()
        slower = "" if works else "; plain torch is used, which is slower"
        yield Check(f"compiled {name}", "ok" if works else "missing", _home(kernel.status()) + slower)


def _extras() -> Iterator[Check]:
    """Of every extra of this distribution: the versions that are here, or what to install."""
    try:
        required = metadata.requires("nexvar") or []
    except metadata.PackageNotFoundError:
        yield Check("extras", "missing", "not installed as a package: run from its source")
        return
    extras: dict[str, list[str]] = {}
    for line in required:
        if wanted := re.match(r"([\w.-]+).*extra == ['\"]([\w.-]+)", line):
            extras.setdefault(wanted[2], []).append(wanted[1])
    for extra, packages in sorted(extras.items()):
        if extra not in NO_VERBS:
            versions = {name: _version(name) for name in packages if name != "nexvar"}
            here = all(versions.values())
            listed = ", ".join(f"{name} {version or '(absent)'}" for name, version in versions.items())
            fix = "" if here else f": pip install 'nexvar[{extra}]'"
            yield Check(f"extra {extra}", "ok" if here else "missing", listed + fix)


def _folders() -> Iterator[Check]:
    from huggingface_hub import constants

    used = (("cache", hub.cache_dir(), "NEXVAR_CACHE"), ("downloads", Path(constants.HF_HUB_CACHE), "HF_HOME"))
    for name, folder, variable in used:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = machine.human_bytes(shutil.disk_usage(there).free)
        problem = ""
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            problem = f"; nothing can be written there ({error.strerror}): set {variable}"
        yield Check(name, "FAIL" if problem else "ok", f"{_home(folder)}, {free} free on its disk{problem}")


def _built_in() -> Check:
    """The built-in model loaded, and what it computes compared with what is recorded of it."""
    start = time.perf_counter()
    checks = list(verify(BUILT_IN, device="cpu", quick=True))
    wrong = [check for check in checks if check.outcome == "FAIL"]
    if wrong:
        return Check(BUILT_IN, "FAIL", "; ".join(f"{check.name}: {check.detail}" for check in wrong))
    passed = sum(check.outcome == "ok" for check in checks)
    return Check(
        BUILT_IN, "ok", f"{passed} checks pass in {time.perf_counter() - start:.1f} s (nexvar verify {BUILT_IN})"
    )


def _processor() -> str:
    model = re.search(r"model name\s*: (.*?)(?: (?:flags|Features)|$)", compiled.processor())
    name = model[1] if model else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _cores() -> str:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{allowed} of {os.cpu_count()} cores"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _environment() -> str:
    named = sorted(name for name in os.environ if VARIABLES.match(name))
    return ", ".join(name + (" (set)" if SECRET.search(name) else f"={_home(os.environ[name])}") for name in named)


def _home(text: object) -> str:
    return str(text).replace(str(Path.home()), "~")
