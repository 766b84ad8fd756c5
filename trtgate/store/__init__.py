"""Journal, history folders and queries over many runs, without torch."""
