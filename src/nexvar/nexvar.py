"""class NexVar: one loaded model (module, tokenizer, card) and what a user does with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.hf import HFModel
from nexvar.inference import annotate as annotation
from nexvar.inference import attribution, per_base, score, track_windows
from nexvar.inference import embed as embedding
from nexvar.inference import fill as filling
from nexvar.inference import generate as generation
from nexvar.inference.core.guidance import Guidance, Guide
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.options import Options
from nexvar.models import Output, check_ids
from nexvar.runs import rows
from nexvar.weights.load import load

if TYPE_CHECKING:
    from nexvar.genome.reference import Fasta, Variant


class NexVar:
    """A genomic foundation model, ready to use.

    source: a model's name or alias (``nexvar models`` lists them; ``"nexvar_mito"`` is built in and needs no
    network), or a folder with config.json and weights in the official layout.
    architecture: for a folder whose config.json does not tell.
    device: "auto" (CUDA, else MPS, else CPU) or any torch device. dtype: "auto" (the card's), "float32", "bfloat16".
    weights: the named model's official weight file where it is already here.
    quantize: "int8", "int4" or "nf4". device_map, offload_folder: "auto" leaves what does not fit in other memories or
    on disk. See docs/quantisation.md.
    adapter: a folder with a LoRA adapter that PEFT (or a fine-tuning run of NexVar) wrote; it is added to the weights.
    allow_wrong_fp8: load 20B/40B off Hopper GPUs, where their numbers are wrong (see docs/checkpoints.md).

    Raises NexVarError: unknown name, a checkpoint that is damaged, hostile or of another architecture.

    >>> model = NexVar("nexvar_mito")
    >>> input_ids = torch.tensor(model.tokenizer.tokenize("ACGT"), dtype=torch.int).unsqueeze(0)
    >>> outputs, embeddings = model(input_ids, return_embeddings=True, layer_names=["blocks.2.mlp.l3"])
    >>> outputs[0].shape[:2], embeddings["blocks.2.mlp.l3"].shape[:2]
    (torch.Size([1, 4]), torch.Size([1, 4]))
    """

    def __init__(
        self,
        source: str | Path = "nexvar_mito",
        *,
        architecture: str | None = None,
        revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        weights: str | Path | None = None,
        quantize: str | None = None,
        device_map: str | Mapping[str, str | int | torch.device] | None = None,
        offload_folder: str | Path | None = None,
        allow_wrong_fp8: bool = False,
        adapter: str | Path | None = None,
    ) -> None:
        self.loaded = load(
            source,
            architecture=architecture,
            revision=revision,
            device=device,
            dtype=dtype,
            weights=weights,
            quantize=quantize,
            device_map=device_map,
            offload_folder=offload_folder,
            allow_wrong_fp8=allow_wrong_fp8,
            adapter=adapter,
        )
        self.model = self.loaded.module
        self.tokenizer = self.loaded.tokenizer
        self.card = self.loaded.card
        self.device = self.loaded.device
        config = self.model.config
        self._vocab_size = int(getattr(config, "vocab_size", None) or config.alphabet_size)

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        return_embeddings: bool = False,
        layer_names: Sequence[str] | None = None,
    ) -> tuple[Output, dict[str, Tensor] | None]:
        """Forward without gradients.

        input_ids: (B, L) integers on any device. attention_mask: (B, L), non-zero for real tokens.
        layer_names: official module names, needed with ``return_embeddings``.

        Returns ``(outputs, embeddings)``: ``outputs[0]`` is the logits (B, L, V), ``embeddings[name]`` (B, L, D) or
        None. For gradients call ``.model`` (an ordinary ``torch.nn.Module``).
        """
        taps: tuple[str, ...] = ()
        if arguments.flag(return_embeddings, "return_embeddings"):
            fix = f"name layers, such as {self.model.last_hidden!r}"
            names = [] if layer_names is None else arguments.a_list(layer_names, "layer_names")
            if not names:
                raise NexVarError("return_embeddings without layer_names", where="layer_names", fix=fix)
            taps = tuple(arguments.text(name, "layer_names", fix) for name in names)
        ids_BL = check_ids(input_ids, self._vocab_size)
        mask_BL = None
        if attention_mask is not None:
            if not isinstance(attention_mask, Tensor) or attention_mask.shape != ids_BL.shape:
                fix = f"a tensor {tuple(ids_BL.shape)}, as input_ids"
                raise NexVarError(f"it is {_shown(attention_mask)}", where="attention_mask", fix=fix)
            mask_BL = attention_mask.to(self.device).bool()
        with torch.no_grad():
            outputs = self.model(
                ids_BL.to(self.device), mask_BL=mask_BL, taps=taps, logits=self.model.has_head or not taps
            )
        return outputs, (outputs.taps if return_embeddings else None)

    def score_sequences(
        self,
        seqs: Sequence[str],
        batch_size: int | None = None,
        prepend_bos: bool | None = None,
        reduce_method: str = "mean",
        average_reverse_complement: bool = False,
    ) -> list[Any]:
        """Log-likelihood of each sequence, natural log: per token ("mean") or in all ("sum"), of causal models.

        reduce_method: "none" gives each base's log-probability, float32 (length of the sequence,), NaN for N and for a
        first base that nothing predicts: their sum is "sum", but for N's. "pll", masked models: the sum of "none", each
        token masked in turn. See ``likelihoods`` for both strands and entropies.
        The first token is not predicted (no begin-of-sequence token) unless ``prepend_bos``; None follows the
        model's official protocol. average_reverse_complement: mean over both strands.
        A score does not depend on ``batch_size`` or on the other sequences.
        """
        return score.score_sequences(
            self.loaded,
            seqs,
            batch_size=batch_size,
            prepend_bos=prepend_bos,
            reduce_method=reduce_method,
            average_reverse_complement=average_reverse_complement,
        )

    def likelihoods(
        self, seqs: Sequence[str], strand: str = "forward", *, batch_tokens: int | None = None
    ) -> list[per_base.PerBase]:
        """Log-probability and entropy of every base of each sequence; see docs/likelihood.md.

        strand: "forward", "reverse" or "both": the rows of ``log_probs_SL`` and ``entropies_SL`` (float32, natural log
        and nats; bases from the forward strand's left to its right); ``log_probs_L`` and ``entropies_L`` are the means.
        Masked models: each token masked in turn, a forward for each token.
        batch_tokens: about how many tokens run together; it changes no result, nor do the other sequences.
        """
        return per_base.per_base(self.loaded, seqs, strand=strand, batch_tokens=batch_tokens)

    def predict_tracks(
        self,
        seqs: Sequence[str],
        tracks: Sequence[str] | None = None,
        *,
        species: str | None = None,
        strand: str = "both",
        window: int | None = None,
        overlap: int | None = None,
        blend: bool = False,
        batch_tokens: int | None = None,
    ) -> list[track_windows.PredictedTracks]:
        """Tracks (coverage, accessibility, binding) along sequences of any length; see docs/tracks.md.

        tracks: names, or patterns such as "RNA*"; None: all, up to 64. species: whose tracks, of post-trained NTv3.
        strand: "both": the mean of both readings, in which the tracks of the two strands change places.
        window, overlap: bases read at once, and at least so many on either side of each bin. blend: means of
        overlapping windows, without seams. batch_tokens: about how many tokens run together; it changes no result.

        Returns one object a sequence: ``names`` (K), ``resolution`` (bases of a bin), ``values_NK`` (N bins, K tracks)
        float32, of each bin the mean a base; ``result["name"]`` is one column.
        Raises NexVarError: no bases, a model without tracks, an unknown track or species, a window it cannot read.
        """
        return track_windows.predict_tracks(
            self.loaded,
            seqs,
            tracks,
            species=species,
            strand=strand,
            window=window,
            overlap=overlap,
            blend=blend,
            batch_tokens=batch_tokens,
        )

    def annotate(
        self,
        seqs: Sequence[str],
        *,
        window: int | None = None,
        overlap: int | None = None,
        strand: str = "forward",
        species: str | None = None,
        batch_tokens: int | None = None,
    ) -> list[annotation.Elements]:
        """The probability of every element (exon, intron, …) at every base, of models that annotate.

        Sequences of any length: windows, None for the model's own, overlap by a quarter and keep their centres.
        strand: "forward", "reverse" or "both" (the mean). species: of models that ask for one. Each result has
        ``names``, ``probs_LE`` (float32, NaN at N), ``result["exon"]`` (L,), ``result.segments(threshold=0.5)``.
        """
        return annotation.annotate(
            self.loaded, seqs, window=window, overlap=overlap, strand=strand, species=species,
            batch_tokens=batch_tokens,
        )  # fmt: skip

    def score_variants(
        self, variants: str | Path | Sequence[str | Variant], genome: str | Path | Fasta, **options: Any
    ) -> Iterator[rows.ScoredAllele]:
        """Stream one row per alternative allele, in input order; nothing is dropped (see each row's ``status``).

        variants: a VCF, BCF or .tsv path, or a list of strings (``chr17:41197722T>A``) and ``Variant`` objects
        (0-based). genome: FASTA path or open ``Fasta``.
        options: the fields of ``options.Options`` (window, strand, batch_tokens, …).
        """
        return rows.score_variants(self.loaded, variants, genome, Options(**options))

    def embed(
        self,
        seqs: Sequence[str],
        layer: str | Sequence[str] | None = None,
        pool: str = "mean",
        strand: str = "forward",
        *,
        batch_tokens: int | None = None,
    ) -> Any:
        """Embeddings, float32 on the CPU; see docs/embeddings.md.

        layer: an official module name (``model.model.tap_names``), or a list of them; None: the final hidden state.
        pool: "mean", "max" or "last" over the tokens of the sequence itself, never special tokens or padding; "cls":
        the [CLS] token, for models that have one; "none": a row for each token (``inference.embed.spans`` says which
        bases each covers).
        strand: "forward"; "reverse" reads the reverse complement (with "none", rows still go from left to right);
        "both" averages the two.
        batch_tokens: about how many tokens run together; it changes no result, nor do the other sequences.

        Returns (N, D), or with "none" a list of (tokens, D); for a list of layers a dict of these by layer.
        """
        return embedding.embed(self.loaded, seqs, layer=layer, pool=pool, strand=strand, batch_tokens=batch_tokens)

    def attention_maps(
        self,
        seqs: Sequence[str],
        layers: Sequence[int] = (),
        *,
        attention_maps_to_save: Sequence[tuple[int, int]] = (),
    ) -> dict[Any, list[Tensor]]:
        """Attention maps of transformers, one tensor per sequence; rows and columns are tokens, special ones included.

        layers: from 0; gives {layer: [(heads, T, T), …]}.
        attention_maps_to_save: (layer, number) pairs as the Nucleotide Transformer's JAX package counts them, layers
        from 1; gives {"attention_map_layer_1_number_4": [(T, T), …]}. NOTE: its number 4 is the sixth head.
        """
        some = arguments.a_list(layers, "layers", "whole numbers")
        pairs = arguments.a_list(attention_maps_to_save, "attention_maps_to_save", "(layer, number) pairs")
        if bool(some) == bool(pairs):
            raise NexVarError("give layers or attention_maps_to_save, one of them", where="attention_maps")
        if some:
            return dict(embedding.attention_maps(self.loaded, seqs, some))
        return dict(embedding.jax_attention_maps(self.loaded, seqs, pairs))

    def generate(
        self,
        prompt_seqs: Sequence[str],
        n_tokens: int = 500,
        temperature: float = 1.0,
        top_k: int = 4,
        top_p: float = 1.0,
        seed: int | None = None,
        *,
        alphabet: str | None = "auto",
        stop: str | int | Sequence[str | int] = (),
        guide: Guide | None = None,
        beam: int = 2,
        branches: int = 4,
        chunk: int = 128,
        return_logits: bool = False,
        cached_generation: bool = True,
        progress: bool = False,
    ) -> generation.Generation:
        """Up to ``n_tokens`` new tokens after each prompt; prompts of any lengths; see docs/generation.md.

        top_k: 1 is greedy, 0 keeps every token; top_p: 1.0 keeps every token. seed: equal seeds give equal tokens,
        whatever else is in the batch; copies of one prompt get seed, seed + 1, …
        alphabet: "auto" draws A, C, G and T only (where the tokenizer has them), another string its letters, None every
        token; those that are no text are then counted in ``left_out``, with a warning.
        stop: strings or token ids that end a sequence, as its last part.
        guide: ``guide(prompt, candidates) -> scores`` (higher is better); every ``chunk`` tokens each of ``beam``
        sequences has ``branches`` continuations, and the best ``beam`` by the guide go on.
        """
        sampling = Sampling(n_tokens, temperature, top_k, top_p, alphabet, stop, cached_generation)
        made = generation.generate(
            self.loaded,
            prompt_seqs,
            sampling,
            seed=seed,
            guidance=None if guide is None else Guidance(guide, beam, branches, chunk),
            return_logits=return_logits,
            progress=progress,
        )
        if lost := generation.left_out_line(made, "alphabet=None"):
            warnings.warn(lost, stacklevel=2)
        return made

    def generate_stream(
        self,
        prompt_seqs: Sequence[str],
        n_tokens: int = 500,
        temperature: float = 1.0,
        top_k: int = 4,
        top_p: float = 1.0,
        seed: int | None = None,
        *,
        alphabet: str | None = "auto",
        stop: str | int | Sequence[str | int] = (),
    ) -> Iterator[generation.Token]:
        """The tokens of ``generate``, each as soon as it is drawn; ``prompt`` of each is the index of its prompt."""
        sampling = Sampling(n_tokens, temperature, top_k, top_p, alphabet, stop)
        return generation.stream(self.loaded, prompt_seqs, sampling, seed=seed)

    def fill(
        self, seqs: Sequence[str], *, steps: int | None = None, temperature: float = 0.0, seed: int = 0
    ) -> list[filling.Filled]:
        """Masked models: every N replaced by the base that the model expects, with probabilities; see ``fill.fill``.

        steps: forwards a sequence; 1 fills everything at once, None one token at a time, the most certain first.
        """
        return filling.fill(self.loaded, seqs, steps=steps, temperature=temperature, seed=seed)

    def attribute(
        self,
        seq: str,
        method: str = "saliency",
        target: attribution.Target | None = None,
        *,
        keep: tuple[int, int] | None = None,
        baseline: str = "N",
        steps: int = 50,
        shuffles: int = 10,
        seed: int = 0,
        batch_tokens: int | None = None,
    ) -> attribution.Attribution:
        """What each base of a sequence adds to a number that the model gives for it; see docs/attribution.md.

        method: "saliency" (embedding x gradient), "integrated" (integrated gradients: ``steps`` points from a
        ``baseline``, "N", "zeros" or "shuffled", the mean of ``shuffles`` with ``seed``), or "ism" (every substitution;
        needs no gradient). target: of ``nexvar.inference.attribution.targets``; None: the log-likelihood.
        keep: the bases (0-based half-open) that are wanted; the others are context. batch_tokens: of "ism".
        """
        return attribution.attribute(
            self.loaded,
            seq,
            method=method,
            target=target,
            keep=keep,
            baseline=baseline,
            steps=steps,
            shuffles=shuffles,
            seed=seed,
            batch_tokens=batch_tokens,
        )

    def dependency_map(
        self,
        seq: str,
        *,
        keep: tuple[int, int] | None = None,
        strand: str = "forward",
        batch_tokens: int | None = None,
    ) -> np.ndarray:
        """(K, K) float32: how much a change of base i (row) changes the log2-odds of base j (column), at most.

        The nucleotide dependencies of Tomaz da Silva et al. 2025; see docs/attribution.md. keep: the K bases (0-based
        half-open) that are wanted; the others are context. strand: "forward", "reverse" or "both", the larger of the
        two: a causal model says nothing of what it read before the change.
        """
        return attribution.dependency_map(self.loaded, seq, keep=keep, strand=strand, batch_tokens=batch_tokens)

    def as_hf(self) -> HFModel:
        """The model as Hugging Face's Trainer, PEFT and captum call one, with loss and gradients (docs/embeddings.md).

        ``forward(input_ids=, attention_mask=, labels=, inputs_embeds=)``; it shares this model's weights.
        """
        return HFModel(self.loaded)

    def __repr__(self) -> str:
        return f"NexVar({self.card.name!r}, device={str(self.device)!r}, dtype={str(self.loaded.dtype)!r})"


def _shown(value: object) -> str:
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else arguments.described(value)
