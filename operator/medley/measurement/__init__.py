"""Measures how fast a served model is: sends requests to an OpenAI-compatible endpoint and finds the highest rates.

Owns: the client, the load (closed and open loop), the choice of what to measure next, the journal that a broken-off
run goes on from. May import: model, ports, profiles, numpy and an HTTP client (aiohttp, client.py only).
"""
