"""Know datasets by name: their files, digests and quirks."""
