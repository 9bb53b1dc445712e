"""The cheapest mix of variants that carries a workload inside its SLO (DESIGN §5).

Owns: problem, formulation and backends, routing models, re-check, joint solve of several services. May import:
workload, profiles, ports, model; pulp and highspy only inside backends/.
"""
