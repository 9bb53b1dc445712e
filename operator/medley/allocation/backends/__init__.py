"""Solver backends: the only place that knows pulp and highspy.

Owns: the formulation in PuLP and running it with HiGHS (in process) or CBC (the differential check in tests).
"""
