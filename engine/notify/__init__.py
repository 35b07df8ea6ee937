"""Alerts out: which notification is told of what, in which words, and the delivery itself.

What is an alert is said in `projections.alerts`. Nothing here decides about clusters.
"""
