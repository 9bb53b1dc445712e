"""Reads what was measured: PromQL in, samples with their three states out.

Owns: the Prometheus adapter and what is odd about its answers. May import: cycle and below; HTTP clients.
"""
