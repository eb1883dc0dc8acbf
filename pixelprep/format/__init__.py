"""Implement the format of data/FORMAT.md: recipe, manifest, HDF5 files."""
