"""The verbs that make or remake an entry: prepare, build, verify."""
