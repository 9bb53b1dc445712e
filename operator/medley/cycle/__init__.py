"""Snapshot → Decision: the loop that operator, replay and CLI share. Pure: same snapshot, same decision.

Owns: the snapshot, the decision, and the way from one to the other. May import: planning and below.
"""
