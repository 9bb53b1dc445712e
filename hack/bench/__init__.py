"""Benchmarks of Medley against the published allocators. Run from the repository: `make bench-allocation`."""
