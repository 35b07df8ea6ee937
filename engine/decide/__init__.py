"""Decisions: what differs, what to do about it, in which order, and whether now. Pure.

Nothing here reads a view, asks a cluster, or looks at a clock: all facts come in as arguments,
so that a decision can be made again and must come out the same.
"""
