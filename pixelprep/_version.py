"""The version, where every room can read it without importing upward."""

__version__ = "0.1.0"
