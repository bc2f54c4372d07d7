"""Files of packed models."""
