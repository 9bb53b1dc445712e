"""From samples to demand: histogram algebra, the joint distribution of sizes, the correction of lagging counts.

Owns: what a Workload is made from. May import: ports, model, numpy. Pure: no I/O, no clock.
"""
