"""Measuring: device identity, the only clock, parity, memory and inspection."""
