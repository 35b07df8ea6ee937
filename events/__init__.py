"""FACTS. What happened, in order; once written, never changed.

Here live the envelope, the catalogue of event types, the log and its proofs. Nothing here
knows how facts are folded (`projections`) or what is done about them (`engine`).
"""
