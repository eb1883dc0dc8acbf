"""The version, where every room can read it without importing upward."""

__version__ = "1.0.0"
