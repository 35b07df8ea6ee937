"""The JSON API and what is served beside it; every request has an authenticated actor.

Nothing here talks to Git or to a cluster: it appends what was asked for, and reads views.
"""
