"""Where desired and actual state are brought together: resolve, assign, queue, decide, act, append.

Sees views and Protocols (`engine.ports`); never Git, Kubernetes or HTTP themselves, which
`compose` hands in."""
