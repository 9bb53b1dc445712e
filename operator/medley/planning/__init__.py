"""From what runs now to the allocation, in steps that are each safe on their own.

Owns: demand factor, stabilisation, make-before-break. May import: allocation, workload, profiles, ports, model.
"""
