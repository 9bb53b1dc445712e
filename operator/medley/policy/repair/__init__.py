"""Repair: a small edit list that makes a document cover its floor inside its ceiling.

| module | what |
|---|---|
| `board` | documents scored on example requests |
| `view`, `shapes`, `action_shapes` | what proposers of edits share: the document on the board, how values generalise |
| `widen`, `narrow`, `additions`, `candidates` | edits that may put an example right, with their cost |
| `greedy` | from the given document to one on which all examples go right |
| `search` | rounds of that, with counterexamples of engine B as new examples |
| `construct` | what the search cannot reach, from the rules' own statements |
| `fewer`, `tidy`, `shrink` | fewer edits, fewer statements, fewer characters; what is allowed stays |
| `contradictions` | rules that no document meets together |
| `repair` | all of it; the way out is a proof by B and C |
| `proposals` | edits from outside, such as a language model, through the same proof |
"""
