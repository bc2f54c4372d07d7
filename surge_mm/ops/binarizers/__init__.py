"""Binarizers: of activations, with the surrogates for their derivatives, and of weights."""
