"""The training loop: recipe -> store -> batches -> loss -> update -> checkpoint. One loop for every architecture.

    pretrain(recipe.toml) -> out/model/            config.json + model.safetensors: what NexVar(folder) loads
                             out/state.safetensors everything a resume needs, replaced atomically
                             out/log.jsonl         one line per logged step

Data-parallel under torchrun: every process computes its rows of the same batch and one all-reduce sums the gradients.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexvar import models, tokenizers
from nexvar.errors import NexVarError
from nexvar.train import data
from nexvar.train.init import initialize
from nexvar.train.optim import Optimizer, Schedule, clip_
from nexvar.train.recipe import Recipe, read

LN2 = math.log(2.0)


def weighted_nll(logits_BLV: Tensor, ids_BL: Tensor, weight_BL: Tensor) -> Tensor:
    """Sum over positions of weight x -log p(next token), in float32 (nats)."""
    logits, targets, weight = logits_BLV[:, :-1], ids_BL[:, 1:], weight_BL[:, 1:]
    nll = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return (nll * weight.flatten()).sum()


class Run:
    """Everything one run holds: model, optimizer, sampler, where it writes and how far it is."""

    def __init__(self, recipe: Recipe, rank: int, world: int) -> None:
        self.recipe, self.rank, self.world = recipe, rank, world
        self.out = Path(recipe.run.out)
        self.out.mkdir(parents=True, exist_ok=True)
        tokenizer = tokenizers.make(recipe.model.tokenizer)
        architecture = models.get(recipe.model.architecture)
        self.config = architecture.Config(**recipe.model.config)
        self.model = architecture.Model(self.config)
        initialize(self.model, recipe.run.seed)
        self.table = data.token_table(tokenizer.tokenize)
        if self.table.max() >= self.config.vocab_size:
            raise NexVarError(
                f"the tokenizer's ids reach {self.table.max()}, the model's vocabulary is {self.config.vocab_size}",
                where="model.config.vocab_size", fix="a larger vocabulary",
            )
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        o, d = recipe.optimizer, recipe.data
        self.optimizer = Optimizer(
            o.kind, self.parameters, adam_lr=o.adam_lr, muon_lr=o.muon_lr, beta1=o.beta1, beta2=o.beta2,
            momentum=o.momentum, weight_decay=o.weight_decay,
        )
        self.store = data.build_store([Path(f) for f in d.files], self.out / "store")
        self.split = data.split(
            self.store.records, by=d.holdout_by, count=d.holdout, seed=d.holdout_seed, exclude=d.exclude
        )
        self.sampler = data.Sampler(
            self.store, self.split.train, d.length, recipe.run.seed, circular=d.circular,
            reverse_complement=d.reverse_complement, weights=d.weights, soft_mask_weight=d.soft_mask_weight,
        )
        self.step, self.decay_start, self.decay = 0, -1, recipe.schedule.decay
        self.steps = recipe.schedule.steps
        forward = self._loss
        self.loss_fn = torch.compile(forward, dynamic=False) if recipe.run.compile else forward

    # --- one step ---------------------------------------------------------------------------------------------

    def _loss(self, ids_BL: Tensor, weight_BL: Tensor) -> Tensor:
        with torch.autocast(ids_BL.device.type, torch.bfloat16, enabled=self.recipe.run.bf16):
            logits = self.model(ids_BL).logits
        return weighted_nll(logits, ids_BL, weight_BL)

    def train_step(self) -> tuple[float, float]:
        """One update. Returns (mean loss in nats per base, gradient norm)."""
        r = self.recipe
        share = r.run.batch // self.world
        first = self.step * r.run.batch + self.rank * share
        total = torch.zeros(2, dtype=torch.float64)
        for p in self.parameters.values():
            p.grad = None
        for i in range(0, share, r.run.micro_batch):
            batch = self.sampler.batch(first + i, r.run.micro_batch)
            ids = torch.from_numpy(self.table[batch.text_BL])
            weight = torch.from_numpy(batch.weight_BL)
            loss = self.loss_fn(ids, weight)
            loss.backward()
            total += torch.tensor([float(loss.detach()), float(weight[:, 1:].sum())], dtype=torch.float64)
        self._all_reduce(total)
        mean = float(total[0] / total[1])
        if not math.isfinite(mean):
            raise NexVarError(
                f"the loss is {mean}", where=f"step {self.step}, windows {first} .. {first + share}",
                fix=f"the checkpoint in {self.out} is from before it; resume with a lower learning rate",
            )
        for p in self.parameters.values():
            p.grad.mul_(1.0 / float(total[1]))  # type: ignore[union-attr]
        norm = clip_(self.parameters.values(), r.optimizer.clip)
        self.optimizer.step(self.step + 1, self.schedule().factor(self.step))
        self.step += 1
        return mean, norm

    def _all_reduce(self, total: Tensor) -> None:
        if self.world == 1:
            return
        dist.all_reduce(total)
        grads = [p.grad for p in self.parameters.values()]
        flat = torch.cat([g.flatten() for g in grads])  # type: ignore[union-attr]
        dist.all_reduce(flat)
        for g, f in zip(grads, flat.split([g.numel() for g in grads]), strict=True):  # type: ignore[union-attr]
            g.copy_(f.view_as(g))  # type: ignore[union-attr]

    def schedule(self) -> Schedule:
        s = self.recipe.schedule
        return Schedule(s.kind, self.steps, s.warmup, self.decay, s.floor)

    def poll_decay(self) -> None:
        """A file ``out/decay`` holding a number N ends the stable phase now and decays over the next N steps.

        The choice is stored in the checkpoint, so a resumed run keeps it.
        """
        request = self.out / "decay"
        wanted = torch.tensor(int(request.read_text()) if self.rank == 0 and request.is_file() else 0)
        if self.world > 1:
            dist.broadcast(wanted, 0)
        if wanted > 0:
            self.decay, self.steps = int(wanted), self.step + int(wanted)
            if self.rank == 0:
                request.rename(self.out / "decay.taken")

    # --- evaluation -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def held_out_bits(self, records: list[data.Record], limit: int | None = None) -> float:
        """Bits per base, every base of ``records`` (their first ``limit`` windows), forward strand, no overlap."""
        length, total = self.recipe.data.length, torch.zeros(2, dtype=torch.float64)
        rows: list[Any] = []
        for record in records[self.rank :: self.world]:
            bases = data.UPPER[self.store.sequence(record)]
            starts = range(0, len(bases) - length + 1, length)
            rows += [bases[s : s + length] for s in list(starts)[:limit]]
        size = self.recipe.run.micro_batch
        while len(rows) % size:  # NOTE a compiled loss has one batch shape; the fill-up rows have weight 0
            rows.append(None)
        for i in range(0, len(rows), size):
            text = [r if r is not None else rows[0] for r in rows[i : i + size]]
            weight = [data.IS_BASE[r].astype("float32") if r is not None else 0 * t for r, t in zip(rows[i : i + size], text, strict=True)]
            ids = torch.stack([torch.from_numpy(self.table[t]) for t in text])
            w = torch.stack([torch.from_numpy(x).float() for x in weight])
            total += torch.tensor([float(self.loss_fn(ids, w)), float(w[:, 1:].sum())], dtype=torch.float64)
        if self.world > 1:
            dist.all_reduce(total)
        return float(total[0] / total[1]) / LN2

    # --- checkpoints ------------------------------------------------------------------------------------------

    def save(self) -> None:
        if self.rank:
            return
        tensors = {f"p.{n}": p.detach() for n, p in self.parameters.items()}
        tensors |= {f"o.{n}": t for n, t in self.optimizer.state.items()}
        facts = {"step": self.step, "steps": self.steps, "decay": self.decay}
        atomic_save(tensors, self.out / "state.safetensors", {"run": json.dumps(facts)})
        folder = self.out / "model"
        folder.mkdir(exist_ok=True)
        config = {"architecture": self.recipe.model.architecture, **self.recipe.model.config}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        weights = {n: t.detach().clone().contiguous() for n, t in self.model.state_dict().items()}
        atomic_save(weights, folder / "model.safetensors", {"step": str(self.step)})

    def resume(self) -> bool:
        path = self.out / "state.safetensors"
        if not path.is_file():
            return False
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["run"])
        tensors = load_file(path)
        with torch.no_grad():
            for n, p in self.parameters.items():
                p.copy_(tensors[f"p.{n}"])
            for n, t in self.optimizer.state.items():
                t.copy_(tensors[f"o.{n}"])
        self.step, self.steps, self.decay = facts["step"], facts["steps"], facts["decay"]
        return True


def atomic_save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file so that ``path`` is always either the old file or the whole new one."""
    partial = path.with_suffix(".partial")
    try:
        save_file(tensors, partial, metadata)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NexVarError(f"cannot be written: {error}", where=path, fix="free disk space; the last one is intact") from error


def pretrain(path: str | Path) -> Path:
    """Train what the recipe says, resuming from its output folder; returns the model folder."""
    recipe = read(Path(path))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    run = Run(recipe, dist.get_rank() if world > 1 else 0, world)
    if recipe.run.threads:
        torch.set_num_threads(max(1, recipe.run.threads // world))
    resumed = run.resume()
    log = (run.out / "log.jsonl").open("a", encoding="utf-8") if run.rank == 0 else None

    def write(**row: Any) -> None:
        if log:
            log.write(json.dumps(row) + "\n")
            log.flush()

    tokens = recipe.run.batch * recipe.data.length
    count = sum(p.numel() for p in run.parameters.values())
    write(event="resume" if resumed else "start", step=run.step, parameters=count, tokens_per_step=tokens,
          time=time.time(), train=len(run.split.train), held_out=len(run.split.held_out))
    then, loss_sum, since = time.time(), 0.0, 0
    while run.step < run.steps:
        run.poll_decay()
        if run.step >= run.steps:
            break
        loss, norm = run.train_step()
        loss_sum, since = loss_sum + loss, since + 1
        last = run.step == run.steps
        if run.step % recipe.run.log_every == 0 or last:
            now = time.time()
            write(step=run.step, loss=loss_sum / since, bits=loss_sum / since / LN2, norm=norm,
                  lr=run.schedule().factor(run.step - 1), tokens_s=since * tokens / (now - then), time=now)
            then, loss_sum, since = now, 0.0, 0
        if run.step % recipe.run.save_every == 0 or last:
            run.save()
        if run.step % recipe.run.eval_every == 0 or last:
            write(step=run.step, held_out_bits=run.held_out_bits(run.split.held_out, None if last else recipe.run.eval_windows),
                  time=time.time())
            then = time.time()
    if world > 1:
        dist.barrier()
    return run.out / "model"
