"""VIEWS. Folds of the facts; every one can be thrown away and rebuilt from the log.

Here live the pure folds and the machinery that stores and rebuilds them. Nothing here talks
to Git or to a cluster, and nothing here writes an event except to say that a fold failed.
"""
