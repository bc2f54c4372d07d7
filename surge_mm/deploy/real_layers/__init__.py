"""Real-valued convolutions of a packed model in int8 or bfloat16."""
