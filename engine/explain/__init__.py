"""What a person can look up: what a field means, and what an error's code means.

Pure text out of the resource model and the table of errors; docs/resources.md and docs/errors.md
are made of the same (`python -m engine.explain`). Nothing here does I/O but reading its own table.
"""
