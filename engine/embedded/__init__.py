"""The embedded Postgres: its folder, its programs, its life.

Nothing here knows what is kept in it.
"""
