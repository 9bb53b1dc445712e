"""Engine C: the same questions handed to Z3, with its strings, regular expressions, reals and bit-vectors.

Shares with engine B only how documents become clauses. Needs the extra `policy`; import it where it is used, not at the
top of a module outside this package: Z3 takes a moment to load.
"""
