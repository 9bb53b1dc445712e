"""AWS IAM policy documents: types, strict reader, printer, and the evaluator of one request (engine A).

Sources: the IAM User Guide's grammar of the policy language and its policy evaluation logic.
"""
