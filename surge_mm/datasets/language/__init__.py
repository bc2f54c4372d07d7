"""Language understanding: the tasks of GLUE, WordPiece tokens, batches by length, and the metrics of each task."""
