"""The parts of a run on a Ray cluster: Ray Data hands them to a pool of actors, each with the model on one GPU.

    driver: the parts' records ── ray.data ──> map_batches(_Actor, one part a batch) ──> Parquet bytes ──> driver writes

Only the driver touches the output. An actor or a node that dies is replaced by Ray, and the parts it had are computed
again. Every node needs the same nexvar, and the FASTA (and a model's folder) under the same path.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from nexvar.doors import packed, unpacked
from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.ops.arithmetic import cpu_products
from nexvar.runs.executor import Done, Identity, PartTask, Report, Setup, slim
from nexvar.runs.partscorer import PartScorer

CONNECT_S = 10.0
Item = TypeVar("Item")
Result = TypeVar("Result")


class RayExecutor:
    """The executor of ``--engine ray``; a context manager that leaves the cluster at the end."""

    setup: Setup

    def __init__(self, actors: int | None, address: str | None) -> None:
        """actors: None is one per GPU, on a cluster without any one per node. address: None starts Ray here."""
        try:
            import ray
            import ray.data
        except ImportError:
            raise NexVarError("Ray is not installed", where="--engine ray", fix="pip install 'nexvar[ray]'") from None
        self.ray: Any = ray
        self.wanted, self.address = actors, address
        self.notes: list[str] = []
        self.actors = 1
        self.resources: dict[str, int] = {}
        self.connected = False  # by us, who then leave

    def __enter__(self) -> RayExecutor:
        if not self.ray.is_initialized():
            _check_address(self.address)
            local = {} if self.address else {"include_dashboard": False}
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage to its makers otherwise
            try:
                self.ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", **local)
            except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
                raise NexVarError(f"no Ray cluster at {self.address} ({str(error)[:200]})", where="--ray-address",
                                  fix="start one with `ray start --head`") from None  # fmt: skip
            self.connected = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.connected:
            self.ray.shutdown()

    def prepare(self, setup: Setup, fasta: Fasta | None = None) -> Identity:
        gpus = 0 if setup.choice.device == "cpu" else int(self.ray.cluster_resources().get("GPU", 0))
        self.resources = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        self.actors = self.wanted or gpus or len(self.ray.nodes())
        if gpus and self.actors > gpus:
            raise NexVarError(f"{self.actors} workers for {gpus} GPUs", where="--workers", fix=f"at most {gpus}")
        # NOTE one thread for each CPU actor, whatever the node has: results then do not depend on the node
        model = replace(setup.choice, device="cuda" if gpus else "cpu")
        self.setup = replace(setup, model=model, threads=None if gpus else 1, products=cpu_products())
        identify = self.ray.remote(**self.resources)(_identify)
        identity: Identity = _unpacked(self.ray.get(identify.remote(self.setup)))
        return identity

    def run(self, tasks: Iterable[PartTask], report: Report) -> Iterator[Done]:
        data = self.ray.data
        data.DataContext.get_current().enable_progress_bars = False  # ours counts alleles
        alleles: dict[int, int] = {}
        items = []
        for task in tasks:  # NOTE the object store holds all records, about 100 bytes each
            alleles[task.part.index] = task.part.alleles
            items.append({"task": _packed(replace(task, records=[slim(record) for record in task.records]))})
        computed = data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            fn_constructor_args=(self.setup,),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(self.actors, len(items)), max_tasks_in_flight_per_actor=2),
            **self.resources,
        )
        for row in computed.iter_rows():
            done: Done = _unpacked(row["done"])
            report(alleles[done.index])
            yield done


def on_cluster(compute: Callable[[Item], Result], items: Sequence[Item], workers: int | None,
               address: str | None) -> Iterator[Result]:  # fmt: skip
    """``compute`` of every item, each a task of the cluster with a GPU of its own where there are any, as they end.

    workers: how many at once; None is as many as the cluster has room for.
    """
    with RayExecutor(workers, address) as cluster:
        ray = cluster.ray
        resources = {"num_gpus": 1} if ray.cluster_resources().get("GPU", 0) else {"num_cpus": 1}
        task, coming = ray.remote(**resources)(compute), iter(items)
        running = [task.remote(item) for item in islice(coming, workers or len(items))]
        while running:
            done, running = ray.wait(running)
            running += [task.remote(item) for item in islice(coming, 1)]
            try:
                yield ray.get(done[0])
            except ray.exceptions.RayError as error:
                what = f"a task was lost on the cluster ({type(error).__name__})"
                raise NexVarError(what, where="--engine ray", fix="the same command resumes") from None


def _check_address(address: str | None) -> None:
    """NexVarError if nobody answers: Ray itself tries for minutes, and its message is many lines."""
    host, colon, port = (address or "auto").removeprefix("ray://").rpartition(":")
    if address in (None, "auto", "local"):
        return
    try:
        if not (host and colon and port.isdecimal() and int(port) < 1 << 16):
            raise NexVarError(f"{address!r} is no address", where="--ray-address", fix="auto, or host:port")
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise NexVarError(f"no Ray cluster at {address} ({error.strerror or error})", where="--ray-address",
                          fix="start one with `ray start --head`") from None  # fmt: skip


class _Actor:
    """One loaded model; called with a batch of one part."""

    def __init__(self, setup: Setup) -> None:
        self.scorer = PartScorer()
        self.scorer.prepare(setup)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        computed = []
        for item in batch["task"]:
            try:
                computed.append(_packed(self.scorer.score(_unpacked(item), lambda alleles: None)))
            except Exception as error:
                computed.append(_packed(packed(error)))
        column = np.empty(len(computed), dtype=object)
        column[:] = computed
        return {"done": column}


def _identify(setup: Setup) -> bytes:
    """A task of its own, before any part: what the model is decides the plan and the manifest."""
    try:
        return _packed(PartScorer().prepare(setup))
    except Exception as error:
        return _packed(packed(error))


def _packed(value: object) -> bytes:
    return pickle.dumps(value)


def _unpacked(data: bytes) -> Any:
    """What was packed; raised if it is an error."""
    value = pickle.loads(data)
    if isinstance(value, tuple):
        raise unpacked(value)
    return value
