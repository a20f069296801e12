"""The training loop: recipe -> store -> windows -> loss -> update -> checkpoint. One loop for every architecture.

    pretrain(recipe.toml) -> out/model/             config.json + model.safetensors: what NexVar(folder) loads
                             out/state.safetensors  all that a resume needs, replaced atomically
                             out/log.jsonl, out/tensorboard/, out/loss.png

Under torchrun every process computes its share of the same windows, positions, channels or experts (``grid.py``) and
gradients are summed, so the number of processes changes nothing but the order of a few additions.
"""

from __future__ import annotations

import errno
import math
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.track_model import TrackModel
from nexvar.models import GenomicModel
from nexvar.ops.arithmetic import in_float32
from nexvar.paths import Read, Write, check_apart
from nexvar.train import folds, identity, state, tuning
from nexvar.train.corpus import Corpus
from nexvar.train.grid import REPLICAS, WINDOWS, Grid
from nexvar.train.heads import HeadMaker, TaskModel, linear
from nexvar.train.logs import Log, loss_curve, matmul_rate
from nexvar.train.objective import LN2, Objective
from nexvar.train.optim import Optimizer, Schedule
from nexvar.train.outcome import outcome
from nexvar.train.recipe import Recipe, TaskPart, TracksPart, read
from nexvar.train.split import ContextForward
from nexvar.train.start import Start
from nexvar.train.task import Task
from nexvar.train.track_metrics import BED
from nexvar.train.track_task import TrackTask
from nexvar.train.weights import Weights, checkpoint_blocks
from nexvar.weights.load import pick_device

LOW_MFU = 0.05  # of the products that the device could compute meanwhile
ADVICE_S = 30  # a run that ends sooner needs no advice
NO_UNITS = 'this processor computes bfloat16 more slowly than float32: bf16 = "auto" would help'
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EEXIST)


class Run:
    """One run: the model, its optimizer, its data, where it writes and how far it is."""

    def __init__(self, recipe: Recipe, rank: int = 0, world: int = 1, head: HeadMaker = linear) -> None:
        # 1. Where it runs, and whether the recipe can run there.
        self.recipe, self.rank, self.world = recipe, rank, world
        self.out, self.device = Path(recipe.run.out), pick_device(recipe.run.device)
        self.grid = grid = Grid.of(recipe.parallel, rank, world, self.device)
        _check_stages(recipe, grid)
        _check_splits(recipe, grid)
        # 2. The model it starts from.
        self.start = start = Start.of(recipe, self.device)
        self.model: GenomicModel | TaskModel | TrackModel = start.module
        self.told = ""  # which layers are updated, for people
        if recipe.tune.adds:
            self.told = tuning.add(self.model, start.architecture, recipe.tune, recipe.run.seed)
        self.out.mkdir(parents=True, exist_ok=True)
        # 3. What it learns from; a task puts its head on the model.
        self.source: Corpus | Task | TrackTask
        freeze = recipe.tune.weights == "head"
        if isinstance(recipe.task, TracksPart) and start.loaded is not None:
            self.source = TrackTask(recipe.task, start.loaded, grid, recipe.run, freeze=freeze)
            self.model = self.source.model
        elif isinstance(recipe.task, TaskPart) and start.loaded is not None:
            self.source = Task(recipe.task, start.loaded, grid, recipe.run, head, freeze=freeze)
            self.model = self.source.model
        else:
            objective = Objective(recipe.objective, start.tokenizer, start.config.vocabulary, recipe.run.seed)
            self.source = Corpus(recipe, objective, grid)
        self.model.train()
        self.flops = _work(self.model, start.config) * self.source.unit
        # 4. The model over the processes.
        if recipe.run.checkpoint_activations:
            checkpoint_blocks(self.model)
        self.weights = Weights(self.model, start.architecture, grid, recipe.run.shard)
        self.forward = ContextForward(self.model, grid) if grid.size("context") > 1 else self.model
        # 5. What changes the weights, and their average.
        self.optimizer = Optimizer(recipe.optimizer, self.weights.local)
        self.buffers = {n: b for n, b in self.model.named_buffers() if n.startswith("head.")}  # of batch norm
        self.ema = {n: p.detach().clone() for n, p in self.weights.local.items()} if recipe.run.ema else {}
        s = recipe.schedule
        self.schedule = Schedule(s.kind, s.steps, s.warmup, s.decay, s.floor, s.cosine_steps)
        self.step = 0
        self.best: tuple[float, int] | None = None  # of a task: what the kept state measured, at which step
        self.identity = identity.identity(recipe, {**start.contents, **self.source.contents})

    @property
    def slow_bf16(self) -> bool:
        """Whether the recipe insists on bfloat16 where float32 is faster."""
        return self.recipe.run.autocast(self.device) and in_float32(torch.bfloat16, self.device)

    # -- one step

    def train_step(self) -> tuple[float, float]:
        """One update. Returns the mean loss (nats per base) and the gradient's norm before clipping."""
        stage, first = self.recipe.stage(self.step)
        share, place = stage.batch // self.grid.size(*WINDOWS), self.grid.index(*REPLICAS)
        begin = first + self.grid.index(*WINDOWS) * share
        torch.manual_seed(hash((self.recipe.run.seed, self.step, place)) % 2**63)  # dropout, the same after a resume
        self.weights.zero()
        sums = torch.zeros(3, dtype=torch.float64)  # nats, weights, bases
        for i in range(begin, begin + share, stage.micro_batch):
            loss, parts = self.source.loss(self.forward, i, stage)
            loss.backward()
            sums += parts
        self.weights.collect()
        self.grid.sum(sums, *REPLICAS)
        if not math.isfinite(float(sums[0])):
            self._stop(f"the loss is {float(sums[0])}", first, stage.batch)
        norm = self.weights.scale_and_clip(1.0 / max(float(sums[1]), 1e-9), self.recipe.optimizer.clip)
        if not math.isfinite(norm):
            self._stop(f"the gradient's norm is {norm}", first, stage.batch)
        self.optimizer.step(self.step + 1, self.schedule.factor(self.step))
        for buffer in self.buffers.values():
            self.grid.sum(buffer, *WINDOWS).div_(self.grid.size(*WINDOWS))
        self.step += 1
        with torch.no_grad():
            for name, mean in self.ema.items():
                mean.lerp_(self.weights.local[name], 1 - self.recipe.run.ema)
        return float(sums[0] / sums[2].clamp(min=1e-9)), norm

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

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """What the source measures on what it holds out (``limit``: windows of a record)."""
        self.model.eval()
        stage = self.recipe.stage(max(self.step - 1, 0))[0]
        measured = self.source.evaluate(self.forward, stage, limit)
        self.model.train()
        return measured

    def choose(self, measured: dict[str, float]) -> bool:
        """Whether a task's state is the best so far on its rows of split valid; then it becomes the model folder."""
        if isinstance(self.source, Corpus):
            return False
        value = self.source.better(measured, self.best and self.best[0])
        if value is None:
            return False
        self.best = (value, self.step)
        self.write_model()
        return True

    # -- checkpoints

    def save(self) -> None:
        """The state for a resume; and the model folder, unless the best state of a task is it. All processes call."""
        whole = self._whole("") | {f"b.{name}": buffer for name, buffer in self.buffers.items()}
        if self.rank == 0:
            facts = {
                "step": self.step, "steps": self.schedule.steps, "decay": self.schedule.decay,
                "asked": self.recipe.schedule.steps, "best": self.best, "recipe": self.identity,
            }  # fmt: skip
            state.write(whole, facts, self.out / "state.safetensors")
        if not (self.recipe.task and self.source.counts["held_out"]):
            self.write_model()

    def _whole(self, kind: str) -> dict[str, Tensor]:
        """The state's tensors whose keys begin so, whole. All processes call it."""
        whole: dict[str, Tensor] = {}
        for key, (name, t) in self._tensors().items():
            if key.startswith(kind):
                whole |= {_renamed(key, name, n): full for n, full in self.weights.whole(name, t).items()}
        return whole

    def write_model(self) -> None:
        """The folder that ``NexVar`` loads: the weights, or their average if there is one. All processes call."""
        kind = "e." if self.ema else "p."
        weights = {key.removeprefix(kind): t for key, t in self._whole(kind).items()} | self.weights.frozen()
        if self.rank:
            return
        tune = self.recipe.tune
        if tune.adds:
            folder, base = self.out / "model/adapter", self.recipe.model.init
            tuning.write(folder, weights, self.start.architecture, self.start.config, tune, base)
            weights = tuning.merged(weights, tune)
        if not isinstance(self.source, Corpus):
            self.source.save(self.out / "model", weights | self.buffers)
        self.start.write(self.out / "model", {name.removeprefix("trunk."): t for name, t in weights.items()})

    def resume(self) -> bool:
        """Continue from ``out/state.safetensors`` if there is one; NexVarError where it is another run's."""
        path = self.out / "state.safetensors"
        if not path.is_file():
            return False
        mine = self._tensors()
        names = {key: {n: _renamed(key, name, n) for n in self.weights.names(name)} for key, (name, _) in mine.items()}
        shapes = {full: self.weights.shapes[n] for them in names.values() for n, full in them.items()}
        shapes |= {f"b.{name}": buffer.shape for name, buffer in self.buffers.items()}
        facts = state.read_facts(path)
        identity.check(facts.get("recipe"), self.identity, path)
        whole = state.read(shapes, path)
        with torch.no_grad():
            for key, (name, tensor) in mine.items():
                tensor.copy_(self.weights.part(name, {n: whole[full] for n, full in names[key].items()}))
            for name, buffer in self.buffers.items():
                buffer.copy_(whole[f"b.{name}"])
        self.step, best = facts["step"], facts["best"]
        self.best = None if best is None else (best[0], best[1])
        asked = self.recipe.schedule.steps
        if facts["asked"] == asked:  # else the recipe has another number of steps now, and that holds
            self.schedule = self.schedule.resumed(facts["steps"], facts["decay"])
        elif asked < self.step:
            fix = f"{self.step} or more, or another run.out"
            raise NexVarError(f"{self.step} steps are done, {asked} are asked", where="schedule.steps", fix=fix)
        return True

    def _tensors(self) -> dict[str, tuple[str, Tensor]]:
        """Key in the state file -> (the parameter it is shaped like, the tensor): p. weight, o. moment, e. average.

        Beside them stand the buffers of a head, as b. and their names."""
        local = {f"p.{n}": (n, t) for n, t in self.weights.local.items()}
        moments = {f"o.{key}": (key.split(".", 1)[1], t) for key, t in self.optimizer.state.items()}
        return local | moments | {f"e.{n}": (n, t) for n, t in self.ema.items()}


def _check_stages(recipe: Recipe, grid: Grid) -> None:
    """NexVarError where a stage's batch or window does not split into the grid's processes."""
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


def _check_splits(recipe: Recipe, grid: Grid) -> None:
    """NexVarError where the weights or the windows are split for what needs them whole."""
    whole = grid.size("tensor", "context", "expert") == 1
    if recipe.optimizer.kind == "muon" and (recipe.run.shard or not whole):
        where = "run.shard" if recipe.run.shard else "[parallel]"
        raise NexVarError("muon needs whole matrices", where=where, fix='optimizer.kind = "adamw"')
    if (recipe.tune.adds or recipe.task) and not whole:
        raise NexVarError("fine-tuning splits windows alone", where="[parallel]", fix="data and run.shard")
    if recipe.task and recipe.run.ema:
        raise NexVarError("a task keeps its best state, not an average", where="run.ema", fix="remove it")


def _work(model: GenomicModel | TaskModel | TrackModel, config: Any) -> float:
    """Floating-point operations a token, attention's scores aside: 2 a weight forward, 2 for its inputs' gradient and 2
    for its own if it is trained. Of experts, a token meets a few; a U-Net's depths have fewer positions than tokens."""
    met = getattr(config, "num_experts_per_tok", 1) / getattr(config, "num_local_experts", 1)
    total = 0.0
    for name, p in model.named_parameters():
        positions = (met if ".experts." in name else 1) * model.positions_per_token(name)
        total += (6 if p.requires_grad else 4) * p.numel() * positions
    return total


def _rate(run: Run, world: int) -> float:
    """FLOP/s of products on this device in the faster of the arithmetics that a run of its dtype could have."""
    dtypes = [torch.bfloat16] if run.recipe.run.autocast(run.device) else [torch.float32]
    if run.slow_bf16:
        dtypes.append(torch.float32)
        if run.rank == 0:
            warnings.warn(f"run.bf16 is true, and {NO_UNITS}", stacklevel=2)
    return max(matmul_rate(run.device, dtype) for dtype in dtypes) * world


def _helps(run: Run) -> str:
    """What would raise the utilisation, by what is usually the reason."""
    if run.slow_bf16:
        return NO_UNITS
    several = "one process a core under torchrun, " if run.device.type == "cpu" and run.world == 1 else ""
    return f"{several}a larger run.micro_batch, longer windows or a wider model would help; so does an idle machine"


def _renamed(key: str, name: str, other: str) -> str:
    """The key in the state file of another parameter of the same kind."""
    return key.removesuffix(name) + other


def pretrain(path: str | Path, track: str = "", *, head: HeadMaker = linear) -> Path:
    """Train what the recipe says, resuming from its output folder if it has begun; returns the model folder.

    track: "wandb" or "trackio", whatever the recipe's ``run.track`` says. head: of a task, in place of the linear one:
    (width of the hidden state, outputs) -> a module from (N, width) to (N, outputs), float32, without buffers;
    ``Predictor(folder, head=…)`` then needs it, too. With ``task.folds``: the folder of the folds (folds.py).
    """
    recipe = read(arguments.path(path, "recipe"))
    if track:
        arguments.text(track, "track")
        recipe = replace(recipe, run=replace(recipe.run, track=track))
    check_apart(_reads(recipe), [Write(recipe.run.out, tree=True)])
    try:
        if isinstance(recipe.task, TaskPart) and recipe.task.folds and not recipe.task.fold:
            return folds.run(recipe, lambda one: _pretrain(one, head))
        return _pretrain(recipe, head)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise state.unwritable(Path(error.filename or recipe.run.out), error) from error


def _reads(recipe: Recipe) -> list[Read]:
    """The files and folders that a recipe names; a model's name is none."""
    model, data, task = recipe.model, recipe.data, recipe.task
    named = [model.init, model.tokenizer_folder, *data.files, data.loss_weights]
    if isinstance(task, TaskPart):
        named.append(task.file)
    elif isinstance(task, TracksPart):
        beds = [text for text in (*task.train, *task.valid, *task.test) if text.endswith(BED)]
        named += [task.fasta, task.annotation, *(track.file for track in task.tracks), *beds]
    return [Read(path) for path in named if path]


def _pretrain(recipe: Recipe, head: HeadMaker) -> Path:
    """Begin or resume, then step by step: update, log, measure, save; what the test says and the curve at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    begun = dist.is_initialized()
    if world > 1 and not begun:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group()
    if recipe.run.threads:
        torch.set_num_threads(max(1, recipe.run.threads // world))
    run = Run(recipe, dist.get_rank() if world > 1 else 0, world, head)
    resumed = run.resume()
    log = Log(run.out, active=run.rank == 0, total=run.schedule.steps, step=run.step, track=recipe.run.track)
    _steps(run, log, resumed)
    folder = run.out / "model"
    if run.rank == 0:
        loss_curve(log.path, run.out / "loss.png")
        for line in _outcome(run.source, folder, head):
            log.say(line)
        log.say(f"the model: {folder}")
    if world > 1:
        dist.barrier()
    if world > 1 and not begun:
        dist.destroy_process_group()
    return folder


def _outcome(source: Corpus | Task | TrackTask, folder: Path, head: HeadMaker) -> list[str]:
    if isinstance(source, TrackTask):
        return source.outcome(folder)
    return outcome(source, folder, head) if isinstance(source, Task) else []


def _steps(run: Run, log: Log, resumed: bool) -> None:
    """From where the run is to its last step."""
    recipe, rate = run.recipe, _rate(run, run.world)
    parameters, counts = sum(shape.numel() for shape in run.weights.shapes.values()), run.source.counts
    event = "resume" if resumed else "start"
    log.event(event=event, step=run.step, parameters=parameters, **counts, matmul_flops=round(rate))
    log.say(_beginning(run, parameters, resumed))
    if run.told:
        log.say(run.told)
    begun_at, told = time.time(), False
    then, before, losses = time.time(), recipe.tokens(run.step), list[float]()
    while run.step < run.schedule.steps:
        run.poll_decay()
        loss, norm = run.train_step()
        losses.append(loss)
        last = run.step == run.schedule.steps
        if run.step % recipe.run.log_every == 0 or last:
            now, tokens, mean = time.time(), recipe.tokens(run.step), sum(losses) / len(losses)
            speed = (tokens - before) / (now - then)
            mfu = run.flops * speed / rate
            if mfu < LOW_MFU and not told and run.rank == 0 and now - begun_at > ADVICE_S:
                told = True
                what = f"{mfu:.1%} of what this device computes in products are used (MFU)"
                warnings.warn(f"{what}: {_helps(run)}", stacklevel=2)
            log.scalars(
                run.step,
                loss=mean,
                **({} if recipe.task else {"bits": mean / LN2}),
                norm=norm,
                lr=run.schedule.factor(run.step - 1),
                tokens=tokens,
                tokens_s=speed,
                mfu=mfu,
            )
            then, before, losses = now, tokens, []
        if counts["held_out"] and (run.step % recipe.run.eval_every == 0 or last):
            measured = run.evaluate(None if last else recipe.run.eval_windows)
            best = run.choose(measured)
            log.scalars(run.step, **measured)
            log.say(_measured(run, measured, best))
            then, before = time.time(), recipe.tokens(run.step)
        if run.step % recipe.run.save_every == 0 or last:  # after the choice, which it keeps
            run.save()
    log.close(run.schedule.steps)


def _beginning(run: Run, parameters: int, resumed: bool) -> str:
    counts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in run.source.counts.items() if n)
    if run.step >= run.schedule.steps:
        return f"{run.out} is finished: {run.step:,} steps are done; a larger schedule.steps goes on"
    went = f"goes on from step {run.step:,} of" if resumed else "starts:"
    return f"{run.out} {went} {run.schedule.steps:,} steps; {parameters:,} parameters are trained on {counts}"


def _measured(run: Run, measured: dict[str, float], best: bool) -> str:
    values = ", ".join(f"{name} {value:.4g}" for name, value in list(measured.items())[:6])
    return f"step {run.step:,} of {run.schedule.steps:,}: {values}{' (the best so far: kept)' if best else ''}"
