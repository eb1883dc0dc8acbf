"""HDF5, which nothing else in the package knows: the layout of a file, its writing, its reading.

data/FORMAT.md describes the file. h5py is loaded only where a file is written, or read for the
first time: what is known already is found without it.
"""
