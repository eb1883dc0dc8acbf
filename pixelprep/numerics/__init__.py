"""Compute with arrays and numbers alone: no files, no processes."""
