"""Measure pixelprep and its peers side by side; `scripts/bench` runs this.

Imports go down only: `__main__` → `rows` (what is measured, a module a subject) → `contest`
(turns, round by round) → `before` (the build before a change) → `worker` (a process for contestants
that share a framework) → `clock`, `table` (the lines, and the register of rows) → `process` →
`place`.
"""
