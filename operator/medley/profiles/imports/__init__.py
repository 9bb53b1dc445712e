"""Profiles out of what other tools write: one module a format, text or parsed JSON in, a value out.

Every module answers with an `Imported`: a Grid or load points in Medley's terms (req/s of one replica, [input][output],
TPOT of decode only), and notes on what was converted, assumed or could not be checked. What cannot be right is refused
with the file, the row and the fix. Files are opened by the caller.
"""
