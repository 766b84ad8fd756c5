"""Models to measure, one file a family."""
