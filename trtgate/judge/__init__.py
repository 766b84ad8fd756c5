"""Judging: pure arithmetic on records, without torch and without a GPU."""
