"""Seconds that Evo 2 1B's whole shape takes on this machine, with random weights in bfloat16 (2.2 GB of memory).

python benchmarks/evo2_1b.py
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/evo2_1b.py    as without bfloat16 units
"""

from __future__ import annotations

import time

import torch

from arithmetic import PROMPT, model
from nexvar.ops import arithmetic
from nexvar.threads import threads_for

BASES, DRAWN, REPEATS = 512, 16, 3


def main() -> None:
    module = model("bfloat16")  # NOTE outside of inference mode, as a checkpoint is loaded: FP8 codes are then kept
    with torch.inference_mode():
        measure(module)


def measure(module: torch.nn.Module) -> None:
    ids = torch.randint(65, 85, (1, BASES))

    def decode() -> None:
        cache = module.new_cache(1, PROMPT + DRAWN)
        logits = module(ids[:, :PROMPT], cache=cache).logits
        with threads_for(1, torch.bfloat16, compiled=True):
            for _ in range(DRAWN):
                logits = module(logits[:, -1:].argmax(-1), cache=cache).logits

    print(f"products in {arithmetic.cpu_products()}, {torch.get_num_threads()} threads; best of {REPEATS}\n")
    print("| | seconds by the clock | CPU-seconds |\n|---|--:|--:|")
    for name, job in ((f"{BASES} bases", lambda: module(ids)), (f"{DRAWN} tokens after {PROMPT} bases", decode)):
        times = []
        for _ in range(REPEATS):
            clock, cpu = time.monotonic(), time.process_time()
            job()
            times.append((time.monotonic() - clock, time.process_time() - cpu))
        print(f"| {name} | {min(times)[0]:.1f} | {min(times)[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
