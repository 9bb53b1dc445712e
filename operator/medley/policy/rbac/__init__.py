"""Kubernetes RBAC: manifests, what they allow, and the questions about it (DESIGN §7).

Roles and bindings only ever allow, and every name in them is a constant but for a URL's trailing `*`. So the questions
about all requests are the same as for IAM (`clauses`), with constants in place of patterns, and the same engines
answer them.
"""
