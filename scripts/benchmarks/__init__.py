"""Measures pixelprep and its peers side by side; `scripts/bench` runs it.

`rows` lists what is measured, a module a subject defines it (the targets and notes are plain
values there), `contest` pairs the rounds, `worker` gives a contestant a process of its own.
"""
