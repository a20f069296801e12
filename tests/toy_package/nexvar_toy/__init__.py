"""An architecture (``mixer.py``) and a card with its weights (``cards/``) for NexVar; see pyproject.toml."""
