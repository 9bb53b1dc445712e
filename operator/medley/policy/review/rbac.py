"""Reviews of Kubernetes roles with their bindings."""

from __future__ import annotations

from dataclasses import replace

from medley.policy import words
from medley.policy.prove import Prover
from medley.policy.rbac import words as rbac_words
from medley.policy.rbac.document import Manifest
from medley.policy.rbac.edits import edit_text
from medley.policy.rbac.localise import localise
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.probes import floor_requests
from medley.policy.rbac.render import manifest_text
from medley.policy.rbac.repair import repair
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.spec import read_spec
from medley.policy.rbac.verify import require_known, verify
from medley.policy.repair.repair import Outcome
from medley.policy.review.case import Case, Finding, Review
from medley.policy.review.proof import as_it_is, ceilings_of, doubts, proof_of, require_rules, sha256
from medley.policy.verify import Verdict


def review_roles(case: Case) -> Review:
    """A review of roles with all bindings that give them; see `review`."""
    spec = read_spec(case.spec, "accessSpec").with_ceilings(ceilings_of(case, read_spec))
    require_rules(spec)
    manifest = replace(parse_manifest(case.document, "document"), extent=case.extent)
    roles, prover = RoleSet(manifest), Prover(case.timeout_ms)
    require_known(roles)
    before = verify(roles, spec, prover)
    found = Review(
        before.verdict,
        tuple(
            Finding(
                witness.rule.id,
                witness.rule.side.value,
                str(witness.request),
                (fault := localise(roles, witness)).case.value,
                tuple(line.strip() for line in rbac_words.fault_lines(fault))[2:],
                witness.rule.reason,
            )
            for witness in before.witnesses
        ),
        doubts(before),
        before.disagreements,
        judged_digest=sha256(_canonical(manifest)),
        probes=tuple(floor_requests(spec, manifest)),
    )
    if before.verdict is not Verdict.VIOLATED:
        return as_it_is(found, before, case, _canonical(manifest))
    result = repair(manifest, spec, prover)
    found = replace(
        found,
        outcome=result.outcome,
        reason=result.reason,
        contradictions=tuple(
            f"floor {one.floor.id} needs what ceiling {one.ceiling.id} shuts: {one.witness}"
            for one in result.contradictions
        ),
        rejected=tuple(
            f"{'; '.join(map(edit_text, one.edits))}: takes away what floor {one.witness.rule.id} needs"
            for one in result.rejected
        ),
    )
    if result.outcome is not Outcome.REPAIRED or result.proof is None:
        return found
    after = manifest_text(result.manifest)
    return replace(
        found,
        proposed=after,
        proposed_digest=sha256(_canonical(result.manifest)),
        edits=tuple(map(edit_text, result.edits)),
        diff=words.text_diff(manifest_text(manifest), after, "live", "repaired"),
        proof=proof_of(result.proof, case, _canonical(result.manifest)),
        probes=tuple(floor_requests(spec, result.manifest)),
    )


def _canonical(manifest: Manifest) -> str:
    """The same text for the same objects, in whatever order a cluster lists them."""
    return manifest_text(replace(manifest, objects=tuple(sorted(manifest.objects, key=lambda found: found.key))))
