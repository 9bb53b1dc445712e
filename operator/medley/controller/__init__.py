"""The operator: kopf feeds it, one loop plans for all services, actuation writes.

Owns: kopf wiring, what is remembered between cycles, the order of a cycle. May import: everything below. Thin: it
decides nothing that cycle/ could.
"""
