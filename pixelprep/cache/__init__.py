"""Entries at rest: find, open, check, list and remove them."""
