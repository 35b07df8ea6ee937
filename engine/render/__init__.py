"""Manifests: from a commit's files to a set of objects, in a confined place.

Nothing here talks to a cluster, reaches the network, or sees a file that the render did not name.
"""
