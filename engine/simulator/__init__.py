"""A Kubernetes API in one process: for the demo, simulations, tests and benchmarks.

What a client sees of a cluster lives here, behind HTTP. It imports nothing else of ours and
nothing of the engine ever imports it: the two meet through a kubeconfig, as with any cluster.
"""
