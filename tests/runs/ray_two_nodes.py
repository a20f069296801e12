"""Run by test_ray.py in a process of its own: a local cluster of two nodes, a run on it, an actor killed.

python ray_two_nodes.py JSON     arguments of score_file; prints what happened as JSON
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from nexvar.inference.options import Options
from nexvar.runs import plan
from score_job import run_job

NODE = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}


def actors() -> list[int]:
    """Process ids of the pool's actors."""
    actors = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::") and b"_Actor" in command:
            actors.append(int(path.parent.name))
    return actors


def main() -> None:
    given = json.loads(sys.argv[1])
    plan.PART_TOKENS = 32 * 128
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(**NODE)
    killed: list[int] = []
    folder = Path(f"{given['outputs']}.parts")

    def kill_one() -> None:
        while not killed:
            if list(folder.glob("part-*.parquet")):
                for pid in actors()[:1]:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.005)

    threading.Thread(target=kill_one, daemon=True).start()
    summary = run_job(**given, options=Options(window=128), engine="ray", workers=2, ray_address=cluster.address)
    print(json.dumps({"scored": summary.scored, "killed": len(killed), "left": not ray.is_initialized()}))
    cluster.shutdown()


if __name__ == "__main__":
    main()
