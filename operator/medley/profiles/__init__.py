"""How fast one replica is: step models, grids, and the instance catalogue.

Owns: service times and the highest rate per size under an SLO, and facts about instance types. May import: model,
ports, numpy. The same step model gives the simulator its service times, so that there is one source of them.
"""
