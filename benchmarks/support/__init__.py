"""What several benchmarks stand on: clusters, workloads, bare loops. No benchmark itself."""
