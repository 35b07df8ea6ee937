"""Looks whether everything that the engine stands on is as it should be, and says what to do.

Nothing here changes anything but the mirrors, which are fetched. What is found is a `Check`;
`engine.doctor.check` is pure, so that the API and the command line share it.
"""
