"""Make self-contained HTML pages about entries, runs and comparisons."""
