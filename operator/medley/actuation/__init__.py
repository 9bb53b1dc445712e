"""Writes what was decided: server-side apply with one field manager, scale subresources, status, Events.

Owns: the cluster client, rendering of Deployments and the routing ConfigMap, status, pools. May import: cycle and
below, api for the shapes it writes; kubernetes.
"""
