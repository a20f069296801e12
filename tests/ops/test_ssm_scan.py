"""The selective scan: every implementation against the definition, forward, backward and cut into pieces."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.ops import ssm_scan, ssm_scan_cpu, ssm_scan_triton
from nexvar.ops.ssm_scan import backend, selective_scan, selective_scan_step
from nexvar.ops.ssm_scan_naive import selective_scan_naive

compiled = pytest.mark.skipif(not ssm_scan_cpu.available(), reason=f"no C scan: {ssm_scan_cpu.status()}")
FAST = ["torch", pytest.param("c", marks=compiled)]


@pytest.fixture(autouse=True)
def any_backend() -> Iterator[None]:
    before = os.environ.get("NEXVAR_SCAN")
    yield
    os.environ.pop("NEXVAR_SCAN", None)
    if before is not None:
        os.environ["NEXVAR_SCAN"] = before


def problem(
    groups: int, rows: int, length: int, channels: int, states: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> list[Tensor]:
    """u, dt, A, B, C, D, state; dt A reaches from nearly no decay to total decay, as trained models do."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    dt = torch.rand(rows, length, channels, generator=draw, dtype=torch.float64) ** 4 * 4
    A = -torch.rand(groups, channels, states, generator=draw, dtype=torch.float64) * 50
    return [
        normal(rows, length, channels),
        dt.to(dtype),
        A.to(dtype),
        normal(rows, length, states),
        normal(rows, length, states),
        normal(groups, channels),
        normal(rows, channels, states),
    ]


def close(x: Tensor, reference: Tensor, tolerance: float = 2e-6) -> None:
    assert x.shape == reference.shape
    x, reference = x.detach().double(), reference.detach().double()
    largest = max(float(reference.abs().max()), 1.0)  # the inputs' scale: a lone value may be a near cancellation
    assert (x - reference).abs().max() <= tolerance * largest


sizes = st.tuples(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 80), st.integers(1, 40), st.sampled_from([1, 4, 16, 17])
)


@pytest.mark.parametrize("choice", FAST)
@given(sizes, st.integers(0, 99))
def test_forward_and_backward_equal_the_definition(choice: str, size: tuple[int, ...], seed: int) -> None:
    groups, per_group, length, channels, states = size
    inputs = problem(groups, groups * per_group, length, channels, states, seed=seed)
    exact = [x.double().requires_grad_() for x in inputs]
    y, last = selective_scan_naive(*exact)
    weights = torch.randn_like(y), torch.randn_like(last)
    gradients = torch.autograd.grad((y, last), exact, weights)

    os.environ["NEXVAR_SCAN"] = choice
    ours = [x.requires_grad_() for x in inputs]
    assert backend(ours[0]) == choice
    our_y, our_last = selective_scan(*ours)
    close(our_y, y)
    close(our_last, last)
    for x, reference in zip(
        torch.autograd.grad((our_y, our_last), ours, [w.float() for w in weights]), gradients, strict=True
    ):
        close(x, reference, 1e-5)


def test_gradients_in_double_precision() -> None:
    inputs = [x.requires_grad_() for x in problem(2, 2, 9, 3, 2, torch.float64)]
    assert torch.autograd.gradcheck(selective_scan, inputs)


@pytest.mark.parametrize("choice", FAST)
@given(st.integers(1, 60), st.integers(0, 60))
def test_a_scan_can_be_continued(choice: str, first: int, second: int) -> None:
    """Any cut: scanning in two calls, or step by step, is one scan."""
    os.environ["NEXVAR_SCAN"] = choice
    u, dt, A, B, C, D, state = problem(2, 2, first + second + 1, 18, 4)
    whole, last = selective_scan(u, dt, A, B, C, D, state)
    ys = []
    for at in (slice(0, first), slice(first, first + second)):
        if at.stop > at.start:
            y, state = selective_scan(u[:, at], dt[:, at], A, B[:, at], C[:, at], D, state)
            ys.append(y)
    y, state = selective_scan_step(u[:, -1], dt[:, -1], A, B[:, -1], C[:, -1], D, state)
    close(torch.cat([*ys, y[:, None]], 1), whole)
    close(state, last)


@pytest.mark.parametrize("choice", FAST)
def test_bfloat16_inputs_are_scanned_in_float32(choice: str) -> None:
    os.environ["NEXVAR_SCAN"] = choice
    u, dt, A, B, C, D, _ = problem(1, 2, 70, 20, 16)
    u, dt, B, C = (x.bfloat16() for x in (u, dt, B, C))
    y, last = selective_scan(u, dt, A, B, C, D)
    exact, exact_last = selective_scan_naive(u.double(), dt.double(), A.double(), B.double(), C.double(), D.double())
    assert y.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    close(y, exact, 2**-8)
    close(last, exact_last)


@pytest.mark.parametrize("choice", FAST)
def test_rows_do_not_see_each_other(choice: str) -> None:
    os.environ["NEXVAR_SCAN"] = choice
    u, dt, A, B, C, D, state = problem(1, 3, 40, 20, 16)
    together, _ = selective_scan(u, dt, A, B, C, D, state)
    for row in range(3):
        at = slice(row, row + 1)
        alone, _ = selective_scan(u[at], dt[at], A, B[at], C[at], D, state[at])
        close(alone, together[at])


@compiled
def test_two_threads_give_what_one_gives() -> None:
    os.environ["NEXVAR_SCAN"] = "c"
    inputs = [x.requires_grad_() for x in problem(1, 1, 65, 70, 16)]
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            y, last = selective_scan(*inputs)
            results.append((y, last, *torch.autograd.grad(y.sum() + last.sum(), inputs)))
        finally:
            torch.set_num_threads(1)
    for one, more in zip(*results, strict=True):
        close(more, one)


def test_no_compiler_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a compiler, or with one that fails, the torch scan is used and the reason can be asked for."""
    for compiler, reason in ((tmp_path / "absent", "no C compiler"), (tmp_path / "cc", "failed")):
        if compiler.name == "cc":
            compiler.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
            compiler.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("CC", str(compiler))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("NEXVAR_SCAN", raising=False)
        ssm_scan_cpu._library.cache_clear()
        try:
            assert not ssm_scan_cpu.available()
            assert reason in ssm_scan_cpu.status()
            assert backend(torch.zeros(1)) == "torch"
        finally:
            ssm_scan_cpu._library.cache_clear()


def test_wrong_choice_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXVAR_SCAN", "cuda")
    with pytest.raises(NexVarError, match="NEXVAR_SCAN='cuda'.*one of auto, torch"):
        backend(torch.zeros(1))


def test_the_full_tensor_never_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work buffers of the torch scan do not grow with the length."""
    monkeypatch.setattr(ssm_scan, "BLOCK_ELEMENTS_CPU", 1 << 10)
    monkeypatch.setenv("NEXVAR_SCAN", "torch")
    seen = []
    original = ssm_scan._Work.__init__

    def recorded(self: ssm_scan._Work, *args: object, **options: object) -> None:
        original(self, *args, **options)  # type: ignore[arg-type]
        seen.append(sum(buffer.numel() for buffer in self.buffers))

    monkeypatch.setattr(ssm_scan._Work, "__init__", recorded)
    for length in (100, 400):
        inputs = [x.requires_grad_() for x in problem(1, 1, length, 16, 4)]
        selective_scan(*inputs)[0].sum().backward()
    assert seen[:2] == seen[2:]
    assert max(seen) <= 3 << 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("choice", ["torch", "triton"])
def test_cuda(choice: str) -> None:
    if choice == "triton" and not ssm_scan_triton.available():
        pytest.skip(ssm_scan_triton.status())
    os.environ["NEXVAR_SCAN"] = choice
    inputs = problem(2, 4, 100, 48, 16)
    y, last = selective_scan(*(x.cuda() for x in inputs))
    expected, expected_last = selective_scan_naive(*inputs)
    close(y.cpu(), expected, 1e-5)
    close(last.cpu(), expected_last, 1e-5)


@pytest.mark.skipif(find_spec("triton") is None and not os.environ.get("CI"), reason="Triton is not installed")
def test_triton_kernel_in_its_interpreter() -> None:
    """The kernel's numbers without a GPU. Triton reads the variable when it is imported: a process of its own."""
    code = "from nexvar.ops import ssm_scan_triton; print(ssm_scan_triton.self_check('cpu'))"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5
