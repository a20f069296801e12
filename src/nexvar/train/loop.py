"""The training loop: recipe -> store -> windows -> loss -> update -> checkpoint. One loop for every architecture.

    pretrain(recipe.toml) -> out/model/             config.json + model.safetensors: what NexVar(folder) loads
                             out/state.safetensors  all that a resume needs, replaced atomically
                             out/log.jsonl, out/tensorboard/, out/loss.png

Under torchrun every process computes its share of the same windows, positions, channels or experts (``grid.py``) and
gradients are summed, so the number of processes changes nothing but the order of a few additions.
"""

from __future__ import annotations

import math
import os
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from nexvar import models, tokenizers
from nexvar.errors import NexVarError
from nexvar.load import make_config, pick_device, save
from nexvar.train import data, state
from nexvar.train.grid import REPLICAS, WINDOWS, Grid
from nexvar.train.init import fresh
from nexvar.train.logs import Log, loss_curve, matmul_rate
from nexvar.train.objective import LN2, Batch, Objective, loss_of
from nexvar.train.optim import Optimizer, Schedule
from nexvar.train.recipe import Recipe, read
from nexvar.train.split import ContextForward
from nexvar.train.weights import Weights, checkpoint_blocks


class Run:
    """One run: the model, its optimizer, its data, where it writes and how far it is."""

    def __init__(self, recipe: Recipe, rank: int = 0, world: int = 1) -> None:
        self.recipe, self.rank, self.world = recipe, rank, world
        self.out, self.device = Path(recipe.run.out), pick_device(recipe.run.device)
        self.grid = grid = Grid.of(recipe.parallel, rank, world, self.device)
        for stage in recipe.stages:
            if stage.batch % (stage.micro_batch * grid.size(*WINDOWS)):
                raise NexVarError(
                    f"a batch of {stage.batch} does not split into {grid.size(*WINDOWS)} processes",
                    where="run.batch",
                    fix="batch = processes x micro_batch x a whole number",
                )
            if stage.length % grid.size("context"):
                raise NexVarError(
                    f"a window of {stage.length} does not split into {grid.size('context')} parts",
                    where="parallel.context",
                    fix="a length that does",
                )
        m, d, o, s = recipe.model, recipe.data, recipe.optimizer, recipe.schedule
        self.config = make_config(m.architecture, m.config, "model.config")
        self.model = fresh(m.architecture, self.config, recipe.run.seed, m.init_std).to(self.device).train()
        if recipe.run.checkpoint_activations:
            checkpoint_blocks(self.model)
        if o.kind == "muon" and (recipe.run.shard or grid.size("tensor", "context", "expert") > 1):
            where = "run.shard" if recipe.run.shard else "[parallel]"
            raise NexVarError("muon needs whole matrices", where=where, fix='optimizer.kind = "adamw"')
        self.weights = Weights(self.model, m.architecture, grid, recipe.run.shard)
        self.forward = ContextForward(self.model, grid) if grid.size("context") > 1 else self.model
        tokenizer = tokenizers.make(m.tokenizer, Path(m.tokenizer_folder) if m.tokenizer_folder else None)
        vocabulary = getattr(self.config, "vocab_size", tokenizer.vocab_size)
        self.objective = Objective(recipe.objective, tokenizer, vocabulary, recipe.run.seed)
        self.optimizer = Optimizer(o, self.weights.local)
        self.ema = {n: p.detach().clone() for n, p in self.weights.local.items()} if recipe.run.ema else {}
        self.schedule = Schedule(s.kind, s.steps, s.warmup, s.decay, s.floor, s.cosine_steps)
        self.out.mkdir(parents=True, exist_ok=True)
        self.store = data.build_store([Path(f) for f in d.files], self.out / "store")
        self.split = data.split(
            self.store.records,
            by=d.holdout_by,
            count=d.holdout,
            seed=d.holdout_seed,
            exclude=d.exclude,
            names=d.holdout_names,
        )
        self.step = 0
        self.sampler = cache(self._sampler)

    def _sampler(self, length: int) -> data.Sampler:
        d = self.recipe.data
        return data.Sampler(
            self.store,
            self.split.train,
            length,
            self.recipe.run.seed,
            circular=d.circular,
            reverse_complement=d.reverse_complement,
            weights=d.weights,
            soft_mask_weight=d.soft_mask_weight,
        )

    # -- one step

    def train_step(self) -> tuple[float, float]:
        """One update. Returns the mean loss (nats per base) and the gradient's norm before clipping."""
        stage, first = self.recipe.stage(self.step)
        share, sampler = stage.batch // self.grid.size(*WINDOWS), self.sampler(stage.length)
        begin = first + self.grid.index(*WINDOWS) * share
        self.weights.zero()
        sums = torch.zeros(3, dtype=torch.float64)  # nats, weights, bases
        for i in range(begin, begin + share, stage.micro_batch):
            batch = self._batch(*sampler.windows(i, stage.micro_batch), i)
            loss, nll = loss_of(self.forward, batch, self.recipe.objective, self.recipe.run.bf16)
            loss.backward()
            sums += torch.tensor([float(nll), float(batch.weight.sum()), batch.bases], dtype=torch.float64)
        self.weights.collect()
        self.grid.sum(sums, *REPLICAS)
        if not math.isfinite(float(sums[0])):
            self._stop(f"the loss is {float(sums[0])}", first, stage.batch)
        norm = self.weights.scale_and_clip(1.0 / max(float(sums[1]), 1e-9), self.recipe.optimizer.clip)
        if not math.isfinite(norm):
            self._stop(f"the gradient's norm is {norm}", first, stage.batch)
        self.optimizer.step(self.step + 1, self.schedule.factor(self.step))
        self.step += 1
        with torch.no_grad():
            for name, mean in self.ema.items():
                mean.lerp_(self.weights.local[name], 1 - self.recipe.run.ema)
        return float(sums[0] / sums[2].clamp(min=1e-9)), norm

    def _batch(self, text: np.ndarray, weight: np.ndarray, first: int) -> Batch:
        """Windows ``first`` .. as this process sees them: all their positions, or its part."""
        parts = self.grid.size("context")
        length = text.shape[1] // parts * parts  # a held-out record may be shorter than a window
        batch = self.objective.batch(text[:, :length], weight[:, :length], first)
        return (batch.part(self.grid.index("context"), parts) if parts > 1 else batch).to(self.device)

    def _stop(self, what: str, first: int, count: int) -> None:
        raise NexVarError(
            what,
            where=f"step {self.step}, windows {first} to {first + count - 1}",
            fix=f"{self.out / 'state.safetensors'} is the last good state; resume it with a lower learning rate",
        )

    def poll_decay(self) -> None:
        """A file ``out/decay`` holding a number N ends a wsd schedule's stable phase now: N steps of decay are left.

        The choice is kept in the checkpoint, so a resumed run is the same run.
        """
        request = self.out / "decay"
        count = request.read_text().strip() if self.rank == 0 and request.is_file() else "0"
        if not count.isdigit():
            raise NexVarError(f"it says {count[:20]!r}", where=request, fix="a number of steps")
        wanted = torch.tensor(int(count), device=self.device)
        if self.world > 1:
            dist.broadcast(wanted, 0)
        if wanted > 0:
            self.schedule = self.schedule.decay_now(self.step, int(wanted))
            if self.rank == 0:
                request.rename(self.out / "decay.taken")

    # -- held-out loss

    @torch.no_grad()
    def held_out_bits(self, records: list[data.Record], length: int, limit: int | None = None) -> float:
        """Bits per base of ``records``: forward strand, windows of ``length`` side by side (the first ``limit``).

        The end of a record that fills no window is left out.
        """
        windows: list[np.ndarray] = []
        for record in records:
            letters = data.UPPER[self.store.sequence(record)]
            starts = list(range(0, max(len(letters) - length, 0) + 1, length))
            windows += [letters[start : start + length][None] for start in starts[:limit]]
        sums, others = torch.zeros(2, dtype=torch.float64), self.grid.size(*WINDOWS)
        for i in range(self.grid.index(*WINDOWS), -(-len(windows) // others) * others, others):
            text = windows[i % len(windows)]  # NOTE shards compute together: every process needs as many windows
            weight = data.IS_BASE[text].astype(np.float32) * (i < len(windows))
            batch = self._batch(text, weight, i)
            # NOTE: without gradients models walk a window in pieces and skip idle experts; all must do the same here.
            with torch.set_grad_enabled(self.grid.size("context", "expert") > 1):
                nll = loss_of(self.forward, batch, self.recipe.objective, self.recipe.run.bf16)[1]
            sums += torch.tensor([float(nll), batch.bases], dtype=torch.float64)
        self.grid.sum(sums, *REPLICAS)
        return float(sums[0] / sums[1].clamp(min=1.0)) / LN2

    # -- checkpoints

    def save(self) -> None:
        """The state for a resume, and the model folder (the average's weights, if there is one). All processes call."""
        whole: dict[str, Tensor] = {}
        for key, (name, t) in self._tensors().items():
            whole |= {_renamed(key, name, n): full for n, full in self.weights.whole(name, t).items()}
        if self.rank:
            return
        facts = {"step": self.step, "steps": self.schedule.steps, "decay": self.schedule.decay}
        state.write(whole, facts, self.out / "state.safetensors")
        m, objective = self.recipe.model, self.recipe.objective.kind
        card = {"tokenizer": m.tokenizer, "objective": objective, "context": self.recipe.stages[-1].length, **m.card}
        with torch.device("meta"):
            module = models.get(m.architecture).Model(self.config)
        module.to_empty(device="cpu")
        with torch.no_grad():
            for name, p in module.named_parameters():
                p.copy_(whole[f"e.{name}" if self.ema else f"p.{name}"])
            for name, buffer in module.named_buffers():
                buffer.copy_(self.model.get_buffer(name))
        try:
            save(self.out / "model", module, architecture=m.architecture, config=self.config, card=card)
        except (OSError, SafetensorError) as error:
            raise state.unwritable(self.out / "model", error) from error

    def resume(self) -> bool:
        """Continue from ``out/state.safetensors`` if there is one."""
        path = self.out / "state.safetensors"
        if not path.is_file():
            return False
        mine = self._tensors()
        names = {key: {n: _renamed(key, name, n) for n in self.weights.names(name)} for key, (name, _) in mine.items()}
        shapes = {full: self.weights.shapes[n] for them in names.values() for n, full in them.items()}
        facts, whole = state.read(shapes, path)
        with torch.no_grad():
            for key, (name, tensor) in mine.items():
                tensor.copy_(self.weights.part(name, {n: whole[full] for n, full in names[key].items()}))
        self.step = facts["step"]
        self.schedule = self.schedule.resumed(facts["steps"], facts["decay"])
        return True

    def _tensors(self) -> dict[str, tuple[str, Tensor]]:
        """Key in the state file -> (the parameter it is shaped like, the tensor): p. weight, o. moment, e. average."""
        local = {f"p.{n}": (n, t) for n, t in self.weights.local.items()}
        moments = {f"o.{key}": (key.split(".", 1)[1], t) for key, t in self.optimizer.state.items()}
        return local | moments | {f"e.{n}": (n, t) for n, t in self.ema.items()}


def _renamed(key: str, name: str, other: str) -> str:
    """The key in the state file of another parameter of the same kind."""
    return key.removesuffix(name) + other


def pretrain(path: str | Path) -> Path:
    """Train what the recipe says, resuming from its output folder if it has begun; returns the model folder."""
    recipe = read(Path(path))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    begun = dist.is_initialized()
    if world > 1 and not begun:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group()
    if recipe.run.threads:
        torch.set_num_threads(max(1, recipe.run.threads // world))
    run = Run(recipe, dist.get_rank() if world > 1 else 0, world)
    resumed = run.resume()
    log = Log(run.out, active=run.rank == 0, total=run.schedule.steps, step=run.step, track=recipe.run.track)
    count = sum(shape.numel() for shape in run.weights.shapes.values())
    rate = matmul_rate(run.device, torch.bfloat16 if recipe.run.bf16 else torch.float32) * world
    log.event(
        event="resume" if resumed else "start",
        step=run.step,
        parameters=count,
        train=len(run.split.train),
        held_out=len(run.split.held_out),
        excluded=len(run.split.excluded),
        matmul_flops=round(rate),
    )
    then, before, losses = time.time(), recipe.tokens(run.step), list[float]()
    while run.step < run.schedule.steps:
        run.poll_decay()
        loss, norm = run.train_step()
        losses.append(loss)
        last, stage = run.step == run.schedule.steps, recipe.stage(run.step - 1)[0]
        if run.step % recipe.run.log_every == 0 or last:
            now, tokens, mean = time.time(), recipe.tokens(run.step), sum(losses) / len(losses)
            speed = (tokens - before) / (now - then)
            log.scalars(
                run.step,
                loss=mean,
                bits=mean / LN2,
                norm=norm,
                lr=run.schedule.factor(run.step - 1),
                tokens=tokens,
                tokens_s=speed,
                mfu=6 * count * speed / rate,
            )
            then, before, losses = now, tokens, []
        if run.step % recipe.run.save_every == 0 or last:
            run.save()
        if run.split.held_out and (run.step % recipe.run.eval_every == 0 or last):
            limit = None if last else recipe.run.eval_windows
            log.scalars(run.step, held_out_bits=run.held_out_bits(run.split.held_out, stage.length, limit))
            then, before = time.time(), recipe.tokens(run.step)
    log.close(run.schedule.steps)
    if run.rank == 0:
        loss_curve(log.path, run.out / "loss.png")
    if world > 1:
        dist.barrier()
    if world > 1 and not begun:
        dist.destroy_process_group()
    return run.out / "model"
