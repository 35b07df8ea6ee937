"""Kubernetes: connect, observe, apply, delete.

Nothing here decides: it reports what is and does what it is told, with its preconditions.
"""
