"""Learning tracks along a genome: ``[task] kind = "tracks"``. Windows, what they are to say, and a head on a model.

    track_windows.py  genome, tracks ── windows: letters, sums of bins      track_losses.py   scaled values ── loss
    track_task.py     windows ── trunk ── head ── scaled values             track_metrics.py  values ── metrics

``loop.Run`` trains it; the state that does best on valid is what a run's folder holds (inference/track_model.py), and
the test is taken once. N bins, K tracks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.files import write_atomically, write_bytes
from nexvar.genome.bigwig import write_bigwig
from nexvar.genome.reference import Interval, reverse_complement
from nexvar.inference import track_model
from nexvar.inference.track_model import TrackFacts, TrackModel, Tracks
from nexvar.models.track_heads import HEADS
from nexvar.train.grid import WINDOWS, Grid
from nexvar.train.outcome import METRICS, said
from nexvar.train.recipe import RunPart, Stage, TracksPart
from nexvar.train.track_losses import LOSSES, loss
from nexvar.train.track_metrics import gene_measures, measures, read_genes
from nexvar.train.track_windows import Tile, TrackFiles, Window, tiles
from nexvar.weights.hub import sha256
from nexvar.weights.load import Loaded

LOSS = "valid_loss"
STRANDS = ("+", "-", ".")
NAME = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")


class TrackTask:
    """One task: its model, its windows, its loss. Sample ``i`` is a pure function of (seed, i)."""

    def __init__(self, part: TracksPart, loaded: Loaded, grid: Grid, run: RunPart, *, freeze: bool = False) -> None:
        check(part, loaded)
        self.part, self.loaded, self.grid, self.run = part, loaded, grid, run
        self.files = TrackFiles(part, Path(run.out) / "store")
        train, self.valid, self.test = self.files.regions()
        self.windows = self.files.learned(train)
        self.counts = {
            "train": len(self.windows),
            "held_out": len(self._tiles(self.valid)),
            "test": len(self._tiles(self.test)),
        }
        self.facts = TrackFacts(
            tuple(t.name for t in part.tracks), _partners(part), tuple(t.strand for t in part.tracks),
            part.resolution, part.window, part.head, self._means(train),
            tuple(t.power for t in part.tracks), part.clip,
        )  # fmt: skip
        self.genes = read_genes(Path(part.annotation), self.files.fasta) if part.annotation else []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            self.model = TrackModel(loaded, self.facts, freeze=freeze)
        self.unit = float(len(track_model.encoding(loaded, self.files.window(self.windows[0]).text).ids))
        regions = {"train": train, "valid": self.valid, "test": self.test}
        self.contents: dict[str, Any] = {
            "task.fasta": sha256(Path(part.fasta)),
            "task.tracks": [[t.name, t.strand, t.pair, t.power, sha256(Path(t.file))] for t in part.tracks],
            **{f"task.{name}": [[p.chrom, p.start, p.end] for p in places] for name, places in regions.items()},
        }
        if self.model.head.averages:
            self.contents["run.micro_batch"] = run.micro_batch  # batch norm's averages are over one
        zeros = [np.zeros(2)] * len(part.tracks)
        known = [LOSS, *measures(zeros, zeros, self.facts.names)]
        if part.metric not in known:
            fix = f"one of {', '.join(known[:12])}"
            raise NexVarError(f"no metric {part.metric[:40]!r}", where="task.metric", fix=fix)

    def _means(self, train: Sequence[Interval]) -> tuple[float, ...]:
        """Of each track; partners have one mean, so that a value stays itself when the strands are swapped."""
        means = self.files.means(train)
        return tuple((means[i] + means[partner]) / 2 for i, partner in enumerate(_partners(self.part)))

    # -- training

    def sample(self, i: int) -> tuple[str, Tensor, Tensor]:
        """Of sample ``i`` the letters, the targets (N, K) and the bins that count: a window, on a strand."""
        epoch, place = divmod(i, len(self.windows))
        window = self.files.window(self.windows[_order(self.run.seed, epoch, len(self.windows))[place]])
        turn = np.random.Generator(np.random.Philox(key=self.run.seed, counter=[0, 0, 3, i])).random()
        targets_NK, keep_N = self._targets(window)
        if turn >= self.part.reverse_complement:
            return window.text, targets_NK, keep_N
        return reverse_complement(window.text), self.facts.other_strand(targets_NK), keep_N.flip(0)

    def _targets(self, window: Window) -> tuple[Tensor, Tensor]:
        return self.facts.scaling.scaled(torch.from_numpy(window.sums_NK)).float(), torch.from_numpy(window.keep_N)

    def loss(self, forward: Any, first: int, stage: Stage) -> tuple[Tensor, Tensor]:
        """One micro-batch from sample ``first`` on: what to differentiate, and (loss, bins, bins) float64."""
        texts, targets, keeps = zip(*[self.sample(i) for i in range(first, first + stage.micro_batch)], strict=True)
        keep_BN = torch.stack(keeps).to(self.loaded.device)
        said_BNK = self._scaled(forward, texts)
        total = loss(self.part.loss, said_BNK, torch.stack(targets).to(self.loaded.device), keep_BN)
        count = float(keep_BN.sum())
        return total, torch.tensor([float(total.detach()), count, count], dtype=torch.float64)

    def _scaled(self, forward: Any, texts: Sequence[str]) -> Tensor:
        return track_model.scaled(forward, self.loaded, texts, self.run.autocast(self.loaded.device))

    # -- measuring

    def evaluate(self, forward: Any, stage: Stage, limit: int | None) -> dict[str, float]:
        """Metrics over the genome and loss of the regions of valid, all of them."""
        said_NK, true_NK, keep_N = self.predicted(lambda texts: self._scaled(forward, texts), self.valid, stage)
        scaling = self.facts.scaling
        total = loss(self.part.loss, scaling.scaled(said_NK)[None], scaling.scaled(true_NK)[None], keep_N[None])
        said, true = ([*(x[keep_N] / self.part.resolution).T.numpy()] for x in (said_NK, true_NK))
        return {**measures(said, true, self.facts.names), LOSS: float(total) / max(int(keep_N.sum()), 1)}

    def better(self, measured: Mapping[str, float], than: float | None) -> float | None:
        """What was measured, if it is better than the best so far; else None."""
        value = measured[self.part.metric]
        ahead = than is None or (value < than if self.part.metric == LOSS else value > than)
        return value if ahead else None

    @torch.no_grad()
    def predicted(
        self, scaled: Callable[[Sequence[str]], Tensor], places: Sequence[Interval], stage: Stage
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of all bins (N, K) float64, said and true, both strands averaged; (N,) which of them count."""
        made, others, index = self._tiles(places), self.grid.size(*WINDOWS), self.grid.index(*WINDOWS)
        N, K = sum(tile.last - tile.first for tile in made), len(self.facts.names)
        out = torch.zeros(N, 2 * K + 1, dtype=torch.float64)
        step = stage.micro_batch * others
        for start in range(0, len(made), step):  # NOTE shards compute together: as many batches in every process
            mine = [start + index * stage.micro_batch + j for j in range(stage.micro_batch)]
            windows = [self.files.window(made[i % len(made)].place) for i in mine]
            texts = [window.text for window in windows]
            there, back = (
                self.facts.scaling.sums(scaled(strand).double().cpu())
                for strand in (texts, [reverse_complement(text) for text in texts])
            )
            sums_BNK = (there + self.facts.other_strand(back)) / 2
            for i, window, sums_NK in zip(mine, windows, sums_BNK, strict=True):
                if i < len(made):
                    tile = made[i]
                    kept = slice(tile.first, tile.last)
                    facts = (sums_NK, torch.from_numpy(window.sums_NK), torch.from_numpy(window.keep_N)[:, None])
                    out[tile.at : tile.at + tile.last - tile.first] = torch.cat(facts, 1)[kept]
        self.grid.sum(out, *WINDOWS)
        return out[:, :K], out[:, K : 2 * K], out[:, -1] > 0

    def _tiles(self, places: Sequence[Interval]) -> list[Tile]:
        return list(tiles(places, self.part.window, self.part.resolution))

    def gene_bins(self, places: Sequence[Interval], keep_N: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """(G, 2) bins [first, last) of the genes that lie whole in a region, by the bins' middles; their strands.

        Genes without a bin, and those with one that does not count, are left out."""
        lost_N, spans, strands, at = np.concatenate([[0], np.cumsum(~keep_N)]), list[tuple[int, int]](), list[str](), 0
        r = self.part.resolution
        for place in places:
            for gene in self.genes:
                g = gene.place
                if g.chrom == place.chrom and place.start <= g.start and g.end <= place.end:
                    first, last = (at + (edge - place.start + r // 2) // r for edge in (g.start, g.end))
                    if first < last and lost_N[first] == lost_N[last]:
                        spans.append((first, last))
                        strands.append(gene.strand)
            at += (place.end - place.start) // r
        return np.array(spans, dtype=np.int64).reshape(-1, 2), strands

    # -- what a run leaves

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """The head and what it says, beside the model."""
        head = {name.removeprefix("head."): t for name, t in weights.items() if name.startswith("head.")}
        track_model.write_head(folder, self.facts, head)

    def outcome(self, folder: Path) -> list[str]:
        """The kept model, measured on valid and once on the test: metrics.json, and a bigWig of each track of the
        test's regions; lines for people."""
        kept = Tracks.load(folder, str(self.loaded.device))
        kept_scaled = partial(track_model.scaled, kept.model, kept.loaded)
        stage = Stage(0, 1, self.run.batch, self.run.micro_batch)
        measured: dict[str, Any] = {}
        for name, places in (("valid", self.valid), ("test", self.test)):
            if not places:
                continue
            said_NK, true_NK, keep_N = self.predicted(kept_scaled, places, stage)
            keep, names = keep_N.numpy(), self.facts.names
            said, true = (x.numpy() / self.part.resolution for x in (said_NK, true_NK))
            measured[name] = {"bins": int(keep.sum()), **measures(list(said[keep].T), list(true[keep].T), names)}
            spans_G2, strands = self.gene_bins(places, keep)
            if len(spans_G2):
                measured[name] |= {"genes": len(spans_G2)}
                measured[name] |= gene_measures(said, true, spans_G2, strands, names, self.facts.strands)
            if name == "test":
                self._write_test(folder.parent, places, said)
        write_bytes(folder.parent / METRICS, f"{json.dumps(measured, indent=1)}\n".encode())
        return [f"{name}: {said_line(values)}" for name, values in measured.items()]

    def _write_test(self, folder: Path, places: Sequence[Interval], said_NK: np.ndarray) -> None:
        lengths, r = self.files.fasta.contigs, self.part.resolution
        rows, at = [], 0
        for place in places:
            n = (place.end - place.start) // r
            rows += [(place.chrom, place.start + i * r, at + i) for i in range(n)]
            at += n
        rows.sort(key=lambda row: (row[0].encode(), row[1]))
        for k, name in enumerate(self.facts.names):
            path = folder / f"test.{name}.bw"
            with write_atomically(path) as unfinished:
                write_bigwig(unfinished, path, dict(lengths), ((c, s, s + r, float(said_NK[i, k])) for c, s, i in rows))


def said_line(values: Mapping[str, Any]) -> str:
    """The means over tracks."""
    kinds = ("bins", "genes", "pearson", "log1p_pearson", "spearman", "gene_log1p_pearson", "gene_total_log1p_pearson")
    return said({kind: values[kind] for kind in kinds if kind in values})


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Every epoch is a permutation of the windows."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 2, epoch])).permutation(count)


def _partners(part: TracksPart) -> tuple[int, ...]:
    names = [t.name for t in part.tracks]
    return tuple(names.index(t.pair or t.name) for t in part.tracks)


def check(part: TracksPart, loaded: Loaded) -> None:
    """NexVarError for what can be wrong with a recipe's [task] alone."""
    for key, value, allowed in (("head", part.head, HEADS), ("loss", part.loss, LOSSES)):
        if value not in allowed:
            raise NexVarError(f"no {key} {value[:40]!r}", where=f"task.{key}", fix=f"one of {', '.join(allowed)}")
    for key, bases in (("window", part.window), ("stride", part.stride)):
        if part.resolution < 1 or bases % part.resolution or bases < (0 if key == "stride" else part.resolution):
            what = f"{key} {bases:,} is no multiple of resolution {part.resolution:,}"
            raise NexVarError(what, where=f"task.{key}", fix="whole bins")
    if part.window > loaded.card.context:
        what = f"a window of {part.window:,} exceeds the context of {loaded.card.name}, {loaded.card.context:,}"
        raise NexVarError(what, where="task.window", fix="a smaller one, or a model with a longer context")
    if not 0 <= part.reverse_complement <= 1:
        what = f"reverse_complement is {part.reverse_complement}"
        raise NexVarError(what, where="task.reverse_complement", fix="a share, such as 0.5")
    if not 0 <= part.clip < float("inf"):
        raise NexVarError(f"clip is {part.clip}", where="task.clip", fix="10, or 0 for none")
    _check_tracks(part)


def _check_tracks(part: TracksPart) -> None:
    by_name = {t.name: t for t in part.tracks}
    if len(by_name) < len(part.tracks):
        raise NexVarError("two tracks have one name", where="task.tracks", fix="name them apart")
    for t in part.tracks:
        where = f"task.tracks, {t.name[:40]}"
        if not t.name or not set(t.name) <= NAME:
            raise NexVarError(
                f"name {t.name[:40]!r}", where="task.tracks", fix="letters, digits, ., _, + and -: it names files"
            )
        if t.strand not in STRANDS:
            raise NexVarError(f"strand {t.strand[:20]!r}", where=where, fix='"+", "-" or "."')
        if not 0 < t.power <= 1:
            raise NexVarError(f"power is {t.power}", where=where, fix="0.75 of RNA-seq, else 1")
        partner = by_name.get(t.pair or t.name)
        if partner is None or (partner.pair or partner.name) != t.name:
            raise NexVarError(
                f"pair {t.pair[:40]!r} is not its partner", where=where, fix="each names the other as its pair"
            )
        if partner.power != t.power:
            raise NexVarError(f"its pair has power {partner.power}", where=where, fix="one power for both")
        if t.strand != "." and partner.strand != {"+": "-", "-": "+"}[t.strand]:
            raise NexVarError(f"its pair is of strand {partner.strand!r}", where=where, fix="one of +, the other of -")
