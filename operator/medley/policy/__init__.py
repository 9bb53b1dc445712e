"""Access policies: what a document allows, whether it fits a spec, and the smallest edit that makes it fit (DESIGN §7).

Owns: documents (`iam/`, `rbac/`), their semantics, the engines that answer questions about all requests at once
(`atoms/`, `smt/`), access specs, verification, localisation and repair. May import: ports,
model; z3 only inside `smt/`.

Three engines answer the same questions. A (`iam/evaluate`, `rbac/evaluate`) decides one request. B (`atoms/`) cuts each
dimension of a request into finitely many classes and searches their product. C (`smt/`) hands the same question to Z3.
Every "no" is a concrete request that A confirms; every "yes" needs B and C to agree.
"""
