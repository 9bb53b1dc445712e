"""The words of Medley as frozen values: services, pools, sizes, workloads, samples, errors.

Owns: dataclasses, enums and the error tree. May import: the standard library only. No I/O, no clock, no logging setup.
"""
