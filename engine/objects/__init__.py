"""Kubernetes objects as values: identity, YAML, digests, redaction, field sets, health. Pure.

Nothing here talks to an API server or knows of applications.
"""
