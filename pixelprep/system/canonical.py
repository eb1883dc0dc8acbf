"""Spell JSON values in one canonical way, and take digests of it."""

import hashlib
import json


def dumps(value: object) -> bytes:
    """The one spelling of a JSON value that digests are taken over: sorted, no spaces, UTF-8."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest(value: object) -> str:
    """The SHA-256 of a JSON value's one spelling, in hex."""
    return hashlib.sha256(dumps(value)).hexdigest()
