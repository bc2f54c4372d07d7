"""What the command-line tools share: configs, runners, ranks, options and resuming."""
