"""The reconcile of AccessPolicies: a process of its own (`medley access`), beside the planning loop and apart from it.

Owns: reading what is in force, having it reviewed, reporting, and under Enforce writing what is proved. May import:
actuation, api, policy. It never touches what serves traffic.
"""
