"""Products of bfloat16 tensors on CPUs without bfloat16 units: another way, the same numbers; and who decides."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.ops import arithmetic, matvec
from nexvar.ops.attention import attention
from nexvar.ops.compiled import FLAGS
from nexvar.ops.conv1d import conv1d
from nexvar.ops.fir import block_filter, block_fir, fir
from nexvar.ops.linear import linear

needs_compiler = pytest.mark.skipif(not matvec.available(), reason=f"no compiled products: {matvec.status()}")


@pytest.fixture(params=arithmetic.ARITHMETICS)
def products(request, monkeypatch):
    """Each arithmetic in turn, whatever this processor has: it was measured so."""
    monkeypatch.setenv(arithmetic.VARIABLE, request.param)
    monkeypatch.setattr(arithmetic, "_remembered", lambda probe: request.param)
    monkeypatch.setattr(arithmetic, "_told", None)
    arithmetic.cpu_products.cache_clear()
    yield request.param
    arithmetic.cpu_products.cache_clear()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


def assert_rounded(got: Tensor, exact: Tensor) -> None:
    """``got`` is ``exact`` (float32) in bfloat16, to two units in its last place and float32's noise."""
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), exact, rtol=2**-7, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("rows", [1, 3, 5, 17, 40])
@pytest.mark.parametrize("sizes", [(33, 70), (300, 512), (1030, 2050)])
@pytest.mark.parametrize("with_bias", [False, True])
@torch.inference_mode()
def test_a_linear_layer_sums_in_float32_and_rounds_once(products, rows, sizes, with_bias, monkeypatch):
    monkeypatch.setattr("nexvar.ops.linear.PANEL_BYTES", 1 << 16)  # several panels
    monkeypatch.setattr("nexvar.ops.linear.PANEL_ROWS", 24)
    x, weight = draw(1, rows, sizes[1]), draw(*sizes)
    bias = draw(sizes[0]) if with_bias else None
    exact = F.linear(x.float(), weight.float(), None if bias is None else bias.float())
    assert_rounded(linear(x, weight, bias), exact)


@torch.inference_mode()
def test_attention_and_filters_keep_their_numbers(products):
    q, k, v = draw(2, 40, 4, 16), draw(2, 40, 4, 16), draw(2, 40, 4, 16)
    mask = torch.arange(40) < torch.tensor([[40], [30]])
    for options in ({"causal": True}, {"mask_BM": mask}, {"causal": True, "mask_BM": mask}):
        exact = attention(q.float(), k.float(), v.float(), **options)
        torch.testing.assert_close(attention(q, k, v, **options).float(), exact, rtol=2**-6, atol=2**-6)
    x, few, many, dense = draw(2, 200, 32), draw(32, 3), draw(4, 100), draw(24, 32, 5)
    assert_rounded(fir(x, few), fir(x.float(), few.float()))
    torch.testing.assert_close(
        block_fir(x, block_filter(many)).float(), block_fir(x.float(), block_filter(many.float())), rtol=0.02, atol=0.5
    )
    assert_rounded(conv1d(x, dense), conv1d(x.float(), dense.float()))


def test_gradients_pass_through_either_arithmetic(products):
    x, weight = draw(40, 64).requires_grad_(), draw(96, 64).requires_grad_()
    linear(x, weight).float().square().sum().backward()
    exact_x, exact_weight = (t.detach().float().requires_grad_() for t in (x, weight))
    F.linear(exact_x, exact_weight).square().sum().backward()
    for got, exact in ((x, exact_x), (weight, exact_weight)):
        scale = float(exact.grad.abs().max())
        torch.testing.assert_close(got.grad.float(), exact.grad, rtol=0.05, atol=0.02 * scale)


def test_float32_and_other_devices_are_left_alone(products):
    assert not arithmetic.is_raised(torch.zeros(2, 2))
    assert not arithmetic.is_raised(torch.zeros(2, 2, dtype=torch.bfloat16, device="meta"))
    assert arithmetic.is_raised(draw(2, 2)) == (products == "float32")


def test_an_arithmetic_that_does_not_exist_is_one_line(monkeypatch):
    monkeypatch.setenv(arithmetic.VARIABLE, "int3")
    arithmetic.cpu_products.cache_clear()
    with pytest.raises(NexVarError, match="no arithmetic 'int3'.*NEXVAR_CPU_MATMUL|NEXVAR_CPU_MATMUL.*no arithmetic"):
        arithmetic.cpu_products()
    arithmetic.cpu_products.cache_clear()
    monkeypatch.setenv(arithmetic.VARIABLE, "")  # as if it were not there
    assert arithmetic.cpu_products() in arithmetic.ARITHMETICS
    arithmetic.cpu_products.cache_clear()


def test_an_arithmetic_that_is_slow_here_is_said(monkeypatch):
    monkeypatch.setenv(arithmetic.VARIABLE, "bfloat16")
    for measured, asked, said in (("float32", None, 1), ("bfloat16", None, 0), ("float32", "bfloat16", 0)):
        monkeypatch.setattr(arithmetic, "_remembered", lambda probe, measured=measured: measured)
        monkeypatch.setattr(arithmetic, "_told", asked)  # by a parent, which said it
        arithmetic.cpu_products.cache_clear()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            assert arithmetic.cpu_products() == "bfloat16"
        assert [str(w.message).split(":")[0] for w in seen] == [f"{arithmetic.VARIABLE}=bfloat16"] * said
    arithmetic.cpu_products.cache_clear()


def test_a_disturbed_probe_is_not_believed():
    """Less than half of the turns disturbed: no matter. In doubt float32, which is never much slower."""
    calm, twice = [1.0] * 5, [2.0] * 5
    assert arithmetic._faster({"bfloat16": calm, "float32": twice}) == "bfloat16"
    assert arithmetic._faster({"bfloat16": [1.0, 90.0, 1.0, 90.0, 1.0], "float32": twice}) == "bfloat16"
    assert arithmetic._faster({"bfloat16": twice, "float32": [1.0, 90.0, 1.0, 90.0, 1.0]}) == "float32"
    assert arithmetic._faster({"bfloat16": calm, "float32": [1.2] * 5}) == "float32"
    assert arithmetic._faster({"bfloat16": calm, "float32": calm}) == "float32"


def test_a_machine_remembers_its_arithmetic_and_damage_is_measured_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []

    def probe() -> str:
        asked.append(1)
        return "float32"

    assert [arithmetic._remembered(probe) for _ in range(3)] == ["float32"] * 3
    assert len(asked) == 1
    (path,) = (tmp_path / "nexvar").glob("products-*")
    path.write_text("float3")
    assert arithmetic._remembered(probe) == "float32" and len(asked) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")  # no place for a cache
    assert arithmetic._remembered(probe) == "float32" and len(asked) == 3


def test_the_probe_answers_with_one_of_the_arithmetics():
    script = "from nexvar.ops import arithmetic; print(arithmetic._probe())"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert answer in arithmetic.ARITHMETICS


@pytest.fixture(params=["all it has", "avx2", "default"])
def processor(request, monkeypatch):
    """The compiled products of this processor, and of lesser ones."""
    if request.param != "all it has":
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", request.param)
    matvec._library.cache_clear()
    yield request.param
    monkeypatch.undo()
    matvec._library.cache_clear()


@needs_compiler
@pytest.mark.parametrize("rows", [1, 2, 3, 16])
@pytest.mark.parametrize("sizes", [(1, 32), (7, 96), (129, 1056), (600, 4096)])
@torch.inference_mode()
def test_compiled_products_are_those_of_the_definition(processor, rows, sizes):
    outputs, inputs = sizes
    x, weight = draw(rows, inputs).float(), draw(outputs, inputs)
    generator = torch.Generator().manual_seed(outputs)

    def close(got: Tensor, exact: Tensor) -> None:
        torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))

    def close_to_half_a_step(got: Tensor, exact: Tensor, weights: Tensor) -> None:
        """x is rounded to 16 bits of its largest number at worst."""
        step = x.abs().amax(1, keepdim=True) / 32767
        noise = 1e-6 * (x.abs() @ weights.abs().T)
        assert torch.all((got - exact).abs() <= step / 2 * weights.abs().sum(1) + noise)

    close(matvec.matvec_bfloat16(x, weight), matvec.matvec_bfloat16_naive(x, weight))
    small = (weight * 100).clamp(-448, 448).to(torch.float8_e4m3fn)
    close(matvec.matvec_float8(x, small), matvec.matvec_float8_naive(x, small))
    codes = torch.randint(-128, 128, sizes, dtype=torch.int8, generator=generator)
    scale = torch.rand(outputs, generator=generator)
    exact = matvec.matvec_int8_naive(x, codes, scale)
    close_to_half_a_step(matvec.matvec_int8(x, codes, scale), exact, codes.float() * scale[:, None])
    for group in [g for g in (32, 64, 96, 128, inputs) if inputs % g == 0]:
        codes = torch.randint(0, 16, sizes, dtype=torch.uint8, generator=generator)
        scales, offsets = (torch.rand(outputs, inputs // group, generator=generator) for _ in range(2))
        packed = matvec.pack_int4(codes, group)
        spread = scales.repeat_interleave(group, 1), offsets.repeat_interleave(group, 1)
        weights = matvec.unpack_int4(packed, scales, offsets)
        torch.testing.assert_close(weights, codes * spread[0] + spread[1])
        for dtype in (torch.float32, torch.bfloat16):
            stored = packed, scales.to(dtype), offsets.to(dtype)
            got, exact = matvec.matvec_int4(x, *stored), matvec.matvec_int4_naive(x, *stored)
            close_to_half_a_step(got, exact, weights + 1)


@pytest.mark.parametrize("compiler, runs", [("gcc", ()), ("clang", ()), ("aarch64-linux-gnu-gcc", ("qemu-aarch64",))])
def test_compiled_products_of_other_compilers_and_processors(compiler, runs, tmp_path):
    """The same sums from a program of its own: NEON is tested where a cross compiler and an emulator are."""
    if missing := [name for name in (compiler, *runs) if shutil.which(name) is None]:
        pytest.skip(f"no {' and no '.join(missing)} here")
    source, program = Path(__file__).with_name("matvec_check.c"), tmp_path / "check"
    where = ("-I", str(matvec.SOURCE.parent), "-static", "-o", str(program), str(source), "-lm")
    subprocess.run([compiler, *FLAGS, *where], check=True, capture_output=True)
    subprocess.run([*runs, str(program)], check=True)


@needs_compiler
def test_every_float8_number_is_multiplied_as_it_is(processor):
    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    every = every[every.float().isfinite()].repeat(3)
    column = matvec.matvec_float8(torch.eye(32)[:1], F.pad(every[:, None].float(), (0, 31)).to(torch.float8_e4m3fn))
    assert torch.equal(column[0], every.float())


@needs_compiler
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1e-41])
def test_numbers_that_are_none_and_numbers_that_are_nearly_none(value):
    x = torch.full((1, 512), value)
    codes, scale = torch.ones(3, 512, dtype=torch.int8), torch.ones(3)
    packed, scales = matvec.pack_int4(torch.ones(3, 512, dtype=torch.uint8), 128), torch.ones(3, 4)
    for got in (matvec.matvec_int8(x, codes, scale), matvec.matvec_int4(x, packed, scales, 0 * scales)):
        assert got.isnan().all() if not abs(value) < 1 else got.abs().max() < 1e-36


@needs_compiler
@pytest.mark.parametrize("heads", [(1, 1), (6, 3), (8, 2), (15, 15)])
@pytest.mark.parametrize("tokens", [1, 7, 500])
@torch.inference_mode()
def test_a_step_of_attention_is_that_of_the_definition(processor, heads, tokens):
    H, K = heads
    for d in (16, 48, 128):
        q, stored = draw(2, H, d).float(), draw(2, 2, K, tokens + 5, d)
        k, v = (x.transpose(1, 2)[:, :tokens] for x in stored)
        torch.testing.assert_close(
            matvec.attention_step(q, k, v), matvec.attention_step_naive(q, k, v), rtol=1e-4, atol=1e-5
        )


@needs_compiler
def test_many_threads_and_a_fork_compute_the_same():
    """Whoever computes a share, the numbers are the same; a fork has no helpers and starts its own."""
    x, weight = draw(1, 2048).float(), draw(4096, 2048)
    exact = matvec.matvec_bfloat16(x, weight)
    script = """
import os, sys, threading, torch
from nexvar.ops import matvec
torch.set_num_threads(5)
g = torch.Generator().manual_seed(0)
x, w = torch.randn(1, 2048, generator=g), torch.randn(4096, 2048, generator=g).bfloat16()
first = matvec.matvec_bfloat16(x, w)
def check():
    for _ in range(20):
        assert torch.equal(matvec.matvec_bfloat16(x, w), first)
def checks():
    threads = [threading.Thread(target=check) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
checks()
if (pid := os.fork()) == 0:
    checks()
    os._exit(0)
sys.exit(os.waitpid(pid, 0)[1])
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        assert torch.equal(matvec.matvec_bfloat16(x, weight), exact)
    finally:
        torch.set_num_threads(before)


def test_a_workers_arithmetic_is_its_parents(products):
    other = next(a for a in arithmetic.ARITHMETICS if a != products)
    arithmetic.use(other)  # the fixture's environment is restored afterwards
    assert arithmetic.cpu_products() == other


@torch.inference_mode()
def test_rows_that_lie_across_memory_are_the_same_rows(products):
    weight, across = draw(520, 512), draw(1, 512, 3).transpose(1, 2)  # (1, 3, 512), dense and not contiguous
    assert_rounded(linear(across, weight), F.linear(across.float(), weight.float()))
    assert torch.equal(linear(across, weight), linear(across.contiguous(), weight))


@torch.inference_mode()
def test_a_product_of_no_rows_is_empty():
    """An expert that no token chose; the compiled product read row 0 of it, which is no memory of ours."""
    weight = torch.ones(2048, 1024, dtype=torch.bfloat16)
    assert linear(weight.new_empty(0, 1024), weight).shape == (0, 2048)
    assert linear(weight.new_empty(2, 0, 1024), weight).shape == (2, 0, 2048)
