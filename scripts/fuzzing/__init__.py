"""Throw damaged and malicious files at everything that reads files: `scripts/fuzz`.

Valid files are mutated with knowledge of their structure, and their checksums and digests are made
right again, so that what lies behind these is reached. Beside atheris, which is guided by coverage,
this reached more of the readers' lines in less time (NPZ headers above all), and that one cannot
look into libhdf5.
"""
