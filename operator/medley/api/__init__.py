"""The CRDs of medley.dev/v1alpha1 as pydantic models: one definition parses, validates and generates the schemas.

Owns: the API models, conversion to model/ and profiles/ values, the CRD generator, the snapshot file.
May import: cycle and below, pydantic, yaml. Everything that comes from outside passes through here once.
"""
