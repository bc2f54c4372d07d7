"""LLVM IR of the loops on a CPU: vectors, memory, tiles of sums and the epilogue behind them."""
