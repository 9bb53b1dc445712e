"""Medley keeps LLM services inside their latency objectives at the lowest GPU cost.

The rooms, top to bottom (a room imports only rooms below it; import-linter checks it):
cli, controller, lab, then actuation | telemetry | api, then cycle, planning, allocation, then workload | profiles,
then ports, then model. Each room's docstring says what it owns and what it may import.
"""

__version__ = "0.1.0"
