"""A short hash of a model's weights: tells a local folder's retrained model apart."""

from __future__ import annotations

import hashlib

from nexvar.weights.load import Loaded
from nexvar.weights.quantize import stored

HASHED_WHOLE = 1 << 28  # bytes of weights; of larger models a sample of every tensor is hashed


def fingerprint(loaded: Loaded) -> str:
    """16 hexadecimal digits. NOTE: of large models a sample of every tensor is hashed."""
    state = loaded.module.state_dict()
    whole = sum(tensor.nbytes for tensor in state.values()) <= HASHED_WHOLE
    digest = hashlib.sha256()
    for name, tensor in state.items():
        for part in stored(tensor):
            flat = part.detach().reshape(-1)
            chosen = flat if whole else flat[:: max(1, flat.numel() // 64)][:64]
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + chosen.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
