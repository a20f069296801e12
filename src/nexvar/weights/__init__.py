"""A checkpoint becomes a module: card -> bytes (hub, checkpoint/) -> tensors -> model, in the memory there is."""
