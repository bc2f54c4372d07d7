"""Shared code of the command-line tools: config, runner, ranks, options and resuming."""
