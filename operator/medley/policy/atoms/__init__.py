"""Engine B: exact answers without a solver.

In each dimension the patterns of a question cut all values into finitely many classes (atoms): two values of one atom
are alike to every test. A question is then a search over the product of the atoms, remembered by which clauses are
still alive. Numbers, instants and addresses are cut at the bounds that the tests name.
"""
