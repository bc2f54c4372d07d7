"""Reading checkpoints safely, and whether they fit a model."""
