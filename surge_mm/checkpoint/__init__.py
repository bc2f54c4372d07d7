"""Load checkpoints safely, and check that they match a model."""
