"""Exports of the log with its proofs, and their verification without a server or a database.

What verifies here trusts nothing but the public keys that it is given.
"""
