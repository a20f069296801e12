"""A MODEL BEHIND HTTP (docs/serving.md). FastAPI and uvicorn are imported here only: ``pip install 'nexvar[serve]'``.

request ── guard.py ── routes/ (JSON in) ── running.py ── worker.py: the one model thread ── service/ (the verbs)
        ── routes/ (JSON out)
"""
