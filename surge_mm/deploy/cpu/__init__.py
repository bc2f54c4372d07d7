"""Packed layers on a CPU: bit packing, geometry, and the loops that Numba compiles."""
