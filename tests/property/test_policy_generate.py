"""Generated policies over names, prefixes, regions and partitions: proved, and rejected with one value changed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medley.model.errors import UserError
from medley.model.objects import ServiceKey
from medley.policy.answers import Engine
from medley.policy.generate import (
    BucketPrefix,
    ClusterEnvironment,
    NodegroupPool,
    OperatorNeeds,
    Part,
    PolicyKind,
    RouterAccess,
    RouterNeeds,
    ServiceNeeds,
    Trust,
    bucket_prefix,
    check,
    check_text,
    operator_parts,
    partition_of,
    service_parts,
)
from medley.policy.iam.parse import parse_document
from medley.policy.prove import Prover
from medley.policy.verify import Verdict
from thoroughness import scaled

REGIONS = (
    "us-east-1",
    "eu-central-2",
    "ap-southeast-4",
    "cn-north-1",
    "cn-northwest-1",
    "us-gov-west-1",
    "us-gov-east-1",
)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
PREFIXES = st.lists(st.from_regex(r"[A-Za-z0-9!_.'()=@+,-]{1,6}", fullmatch=True), min_size=1, max_size=3).map("/".join)
BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,10}[a-z0-9]", fullmatch=True).filter(lambda name: "--" not in name)
ACCOUNTS = st.from_regex(r"[0-9]{12}", fullmatch=True)
ATOMS = Prover(engines=(Engine.ATOMS,))


@st.composite
def environments(draw: st.DrawFn) -> ClusterEnvironment:
    region = draw(st.sampled_from(REGIONS))
    suffix = ".cn" if region.startswith("cn-") else ""
    issuer = f"oidc.eks.{region}.amazonaws.com{suffix}/id/{draw(st.from_regex(r'[A-F0-9]{4}', fullmatch=True))}"
    cluster = draw(st.from_regex(r"[0-9A-Za-z][A-Za-z0-9_-]{0,10}", fullmatch=True))
    trust = draw(st.sampled_from(Trust))
    return ClusterEnvironment(partition_of(region), draw(ACCOUNTS), region, cluster, issuer, trust)


def places(bucket: str, prefix: str) -> BucketPrefix | None:
    try:
        return bucket_prefix(f"s3://{bucket}/{prefix}", "uri")
    except UserError:
        return None


STORES = st.none() | st.builds(places, BUCKETS, PREFIXES)


@st.composite
def services(draw: st.DrawFn, at: ClusterEnvironment) -> ServiceNeeds:
    model, cache = draw(STORES), draw(STORES)
    assume(model is None or cache is None or not model.overlaps(cache))
    stores = model is not None or cache is not None
    account, router = draw(LABELS), draw(LABELS)
    assume(account != router and "default" not in (account, router))
    key = at.arn("kms", "key/1234abcd-12ab-34cd-56ef-1234567890ab") if stores and draw(st.booleans()) else None
    return ServiceNeeds(
        ServiceKey(draw(LABELS), draw(LABELS)),
        account,
        model,
        cache,
        key,
        at.arn("ecr", "repository/" + draw(st.from_regex(r"[a-z0-9]{1,5}(/[a-z0-9]{1,5})?", fullmatch=True))),
        RouterNeeds(router, draw(LABELS), draw(st.sampled_from(RouterAccess))),
    )


@st.composite
def operators(draw: st.DrawFn) -> OperatorNeeds:
    names = draw(st.lists(LABELS, min_size=1, max_size=4, unique=True))
    pools = tuple(NodegroupPool(name, f"g{name}", f"eks-{name}" if draw(st.booleans()) else None) for name in names)
    return OperatorNeeds(ServiceKey(draw(LABELS), draw(LABELS)), pools)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[ClusterEnvironment, ServiceNeeds, OperatorNeeds]:
    at = draw(environments())
    return at, draw(services(at)), draw(operators())


def parts(at: ClusterEnvironment, needs: ServiceNeeds, operator: OperatorNeeds) -> tuple[Part, ...]:
    return (*service_parts(needs, at), *operator_parts(operator, at))


@settings(max_examples=scaled(40), deadline=None)
@given(worlds())
def test_every_part_is_proved_by_both_engines_and_names_its_place(
    world: tuple[ClusterEnvironment, ServiceNeeds, OperatorNeeds],
) -> None:
    at = world[0]
    for part in parts(*world):
        found = check(part, Prover())
        assert found.report.verdict is Verdict.SATISFIED, (part.title, found.report.witnesses, found.report.doubts)
        assert found.engines == (Engine.ATOMS, Engine.SMT)
        if part.kind is PolicyKind.RBAC:
            continue
        text = part.document_text
        assert f"arn:{at.partition}:" in text or "pods.eks.amazonaws.com" in text
        assert at.account in text
        assert at.region in text
        for statement in parse_document(text, part.title).statements:
            everything = statement.resource is not None and "*" in statement.resource.items
            assert not everything or statement.conditions, "a star is bound by conditions"


@settings(max_examples=scaled(40), deadline=None)
@given(worlds(), st.data())
def test_a_document_for_another_value_is_rejected(
    world: tuple[ClusterEnvironment, ServiceNeeds, OperatorNeeds], data: st.DataObject
) -> None:
    at, needs, operator = world
    change = data.draw(st.sampled_from(("account", "cluster", "service account", "prefix", "pool")))
    at2, needs2, operator2 = at, needs, operator
    if change == "account":
        at2 = dataclasses.replace(at, account=data.draw(ACCOUNTS.filter(lambda number: number != at.account)))
        arns = {"kms_key_arn": needs.kms_key_arn, "image_repository_arn": needs.image_repository_arn}
        moved = {key: arn and arn.replace(f":{at.account}:", f":{at2.account}:") for key, arn in arns.items()}
        needs2 = dataclasses.replace(needs, **moved)
        changed = {part.name for part in parts(*world) if part.kind is not PolicyKind.RBAC}
    elif change == "cluster":
        at2 = dataclasses.replace(at, cluster=at.cluster + "x")
        pods = at.trust is Trust.POD_IDENTITY
        names = {"operator-policy", *(("operator-trust", "pod-trust") if pods else ())}
        changed = {part.name for part in parts(*world) if part.name.value in names}
    elif change == "service account":
        needs2 = dataclasses.replace(needs, account=f"{needs.account}x")
        changed = {part.name for part in parts(*world) if part.name.value == "pod-trust"}
    elif change == "prefix":
        assume(needs.model is not None and needs.cache is None)
        assert needs.model is not None
        longer = BucketPrefix(needs.model.bucket, needs.model.prefix + "x")
        needs2 = dataclasses.replace(needs, model=longer)
        changed = {part.name for part in parts(*world) if part.name.value == "pod-policy"}
    else:
        first = operator.nodegroups[0]
        renamed = dataclasses.replace(first, nodegroup=first.nodegroup + "x")
        operator2 = dataclasses.replace(operator, nodegroups=(renamed, *operator.nodegroups[1:]))
        changed = {part.name for part in parts(*world) if part.name.value == "operator-policy"}
    for ours, theirs in zip(parts(*world), parts(at2, needs2, operator2), strict=True):
        if ours.name in changed:
            report = check_text(ours, theirs.document_text, ATOMS).report
            assert report.verdict is Verdict.VIOLATED, (change, ours.title)


ODD = st.sampled_from(
    ["*", "?", "${aws:username}", "${*}", "\n", '"', "\\", " ", "%", "é", "//", "<", "&", "\x00", "#"]
)


@settings(max_examples=scaled(150), deadline=None)
@given(BUCKETS, PREFIXES, ODD, st.integers(0, 30))
def test_what_a_policy_would_read_as_more_than_itself_is_refused(bucket: str, prefix: str, odd: str, at: int) -> None:
    place = at % (len(prefix) + 1)
    strange = prefix[:place] + odd + prefix[place:]
    with pytest.raises(UserError) as caught:
        bucket_prefix(f"s3://{bucket}/{strange}", "spec.access.modelUri")
    assert caught.value.field == "spec.access.modelUri"
    assert caught.value.fix
