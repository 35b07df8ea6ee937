"""DEEDS. The world comes in as events and goes out as corrections.

Here live Git, rendering, clusters, decisions, the HTTP API and the command line. State that
must survive a restart never lives here: it is in the log.
"""
