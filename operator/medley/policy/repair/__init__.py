"""Repair: the smallest edit list that makes a document cover its floor inside its ceiling.

`board` scores documents on example requests, `candidates` proposes edits, `search` applies the best ones and turns
counterexamples of engine B into new examples, `construct` closes what is left by statements taken from the rules, and
`repair` proves the result by B and C or reports the rules that contradict each other.
"""
