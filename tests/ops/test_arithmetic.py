"""Products of bfloat16 tensors on CPUs without bfloat16 units: another way, the same numbers; and who decides."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.ops import arithmetic, matvec
from nexvar.ops.attention import attention
from nexvar.ops.conv1d import conv1d
from nexvar.ops.fir import block_filter, block_fir, fir
from nexvar.ops.linear import linear

needs_compiler = pytest.mark.skipif(not matvec.available(), reason=f"no compiled products: {matvec.status()}")


@pytest.fixture(params=arithmetic.ARITHMETICS)
def products(request, monkeypatch):
    """Each arithmetic in turn, whatever this processor has."""
    monkeypatch.setenv(arithmetic.VARIABLE, request.param)
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


@needs_compiler
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("sizes", [(1, 32), (7, 96), (129, 1056), (600, 4096)])
@torch.inference_mode()
def test_compiled_products_are_those_of_the_definition(rows, sizes):
    outputs, inputs = sizes
    x, weight = draw(rows, inputs).float(), draw(outputs, inputs)
    generator = torch.Generator().manual_seed(outputs)

    def close(got: Tensor, exact: Tensor) -> None:
        torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))

    close(matvec.matvec_bfloat16(x, weight), matvec.matvec_bfloat16_naive(x, weight))
    codes = torch.randint(-128, 128, sizes, dtype=torch.int8, generator=generator)
    scale = torch.rand(outputs, generator=generator)
    close(matvec.matvec_int8(x, codes, scale), matvec.matvec_int8_naive(x, codes, scale))
    for group in (32, 96 if inputs % 96 == 0 else inputs):
        codes = torch.randint(0, 16, sizes, dtype=torch.uint8, generator=generator)
        scales, offsets = (torch.rand(outputs, inputs // group, generator=generator) for _ in range(2))
        packed = matvec.pack_int4(codes, group)
        spread = scales.repeat_interleave(group, 1), offsets.repeat_interleave(group, 1)
        torch.testing.assert_close(matvec.unpack_int4(packed, scales, offsets), codes * spread[0] + spread[1])
        close(matvec.matvec_int4(x, packed, scales, offsets), matvec.matvec_int4_naive(x, packed, scales, offsets))


def test_a_workers_arithmetic_is_its_parents(products):
    other = next(a for a in arithmetic.ARITHMETICS if a != products)
    arithmetic.use(other)  # the fixture's environment is restored afterwards
    assert arithmetic.cpu_products() == other


@torch.inference_mode()
def test_rows_that_lie_across_memory_are_the_same_rows(products):
    weight, across = draw(520, 512), draw(1, 512, 3).transpose(1, 2)  # (1, 3, 512), dense and not contiguous
    assert_rounded(linear(across, weight), F.linear(across.float(), weight.float()))
    assert torch.equal(linear(across, weight), linear(across.contiguous(), weight))
