"""Random faults on real processes for as long as one likes, against what must hold whatever comes.

`make soak ARGS='minutes=10 seed=7'`. Nothing here is a unit test; a short soak is in `make test`.
"""
