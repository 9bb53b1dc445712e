"""The `medley` command.

Owns: arguments, tables, exit codes. May import: everything below. Decides nothing: it calls what the operator calls.
"""
