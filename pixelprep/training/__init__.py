"""Train, evaluate and compare models on entries (the ``train`` extra)."""
