"""Git in: mirrors are fetched and read, commits and refs become events.

Nothing here renders manifests, checks files out, or runs anything that a repository holds.
"""
