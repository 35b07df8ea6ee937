"""Declared resources: what people write in YAML, checked before anything changes. Pure.

Nothing here reads a file, asks a server, or knows what is done about a resource.
"""
