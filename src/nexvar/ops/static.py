"""Steps of fixed shape over buffers that stay: a CUDA graph records one once and replays it.

A decoding step is hundreds of small kernels, and launching them takes longer than running them; a graph launches them
all at once. ``NEXVAR_CUDA_GRAPHS=1`` asks for it (``asked_for``). Without CUDA the same step runs as ever.

NOTE: ``cuda_graph`` never ran, for want of a GPU; everything else here is tested with a stand-in for it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError

VARIABLE = "NEXVAR_CUDA_GRAPHS"
WARM_UPS = 2  # what is made when it is first needed (workspaces, compiled kernels) is made before the recording
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]


def asked_for(module: nn.Module) -> bool:
    """Whether steps of this model are to be recorded; where they cannot be, a warning says why."""
    value = os.environ.get(VARIABLE, "0")
    if value not in ("0", "1"):
        raise NexVarError(f"{VARIABLE} is {value!r}", fix="1: decode by CUDA graphs, 0: do not")
    devices = {p.device for p in module.parameters()}
    if value == "1" and (len(devices) > 1 or any(d.type != "cuda" for d in devices)):
        where = ", ".join(sorted(map(str, devices)))
        warnings.warn(f"{VARIABLE}=1 needs all weights on one CUDA device: on {where} it does nothing", stacklevel=2)
        return False
    return value == "1"


def cuda_graph(function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """Record ``function``: what replays it, and the tensor that its result is in after each replay."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UPS):
            function()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph.replay, result


class StaticStep:
    """``function(x)`` for x of one shape, again and again; what it remembers is in the tensors of ``states``.

    capture: records it at the first call (``cuda_graph``); None: it runs as it is. A result holds until the next call.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], states: Sequence[Any], capture: Capture | None) -> None:
        self.function, self.capture = function, capture
        self.buffers = [(s, name, x) for s in states for name, x in vars(s).items() if isinstance(x, Tensor)]
        self.recorded: tuple[Tensor, Callable[[], object], Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.recorded is None and self.capture is not None:
            self._record(x, self.capture)
        if self.recorded is None:
            return self._step(x)
        given, replay, result = self.recorded
        given.copy_(x)
        replay()
        return result

    def _step(self, x: Tensor) -> Tensor:
        """The function; its states stay in the buffers that they were in."""
        y = self.function(x)
        for state, name, buffer in self.buffers:
            if (after := getattr(state, name)) is not buffer:
                buffer.copy_(after)
                setattr(state, name, buffer)
        return y

    def _record(self, x: Tensor, capture: Capture) -> None:
        """Recording runs the step: the states are put back as they were."""
        given, kept = x.clone(), [buffer.clone() for _, _, buffer in self.buffers]
        try:
            self.recorded = (given, *capture(lambda: self._step(given)))
        except RuntimeError as error:
            self.capture = None
            reason = str(error).strip().split("\n")[0]
            warnings.warn(f"the decoding step cannot be recorded ({reason}): it runs without CUDA graphs", stacklevel=2)
        for (state, name, buffer), before in zip(self.buffers, kept, strict=True):
            buffer.copy_(before)
            setattr(state, name, buffer)
