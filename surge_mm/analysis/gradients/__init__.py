"""The gradients of binary layers on batches: report, probe of the loss, depth of a network, pictures."""
