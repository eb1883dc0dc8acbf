"""The file format, as data/FORMAT.md specifies it: recipe, manifest, HDF5 files."""
