"""Engines that prove (B, C) against the evaluator of one request (A)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from medley.policy.answers import Empty, Found, Unknown
from medley.policy.atoms.dimension import ACTIONS, CALLERS, RESOURCES, TEXTS
from medley.policy.atoms.product import find
from medley.policy.atoms.strings import Joint, Pattern, Universe
from medley.policy.clauses import All, Builder, Not
from medley.policy.glob import Glob, action_glob, matcher, resource_glob, text_glob
from medley.policy.iam.document import Document
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.policyset import PolicySet, Relation
from medley.policy.iam.request import Request
from medley.policy.smt.engine import find as smt
from medley.policy.spec.regions import region_of
from policy_strategies import documents, requests
from thoroughness import scaled


def not_within(p: Document | PolicySet, q: Document | PolicySet):
    builder = Builder()
    return builder.question(All((builder.allowed(p), Not(builder.allowed(q)))))


@settings(max_examples=scaled(150), deadline=None)
@given(documents(variables=False), documents(variables=False), st.lists(requests(), min_size=5, max_size=15))
def test_atoms_agree_with_the_evaluator(p: Document, q: Document, samples: list[Request]):
    answer = find(not_within(p, q))
    a, b = Evaluator(p), Evaluator(q)
    if isinstance(answer, Found):
        assert a.allows(answer.witness)
        assert not b.allows(answer.witness)
    if isinstance(answer, Empty):
        for sample in samples:
            assert b.allows(sample) or not a.allows(sample)


@settings(max_examples=scaled(100), deadline=None)
@given(documents(), documents())
def test_a_witness_with_variables_is_real(p: Document, q: Document):
    answer = find(not_within(p, q))
    if isinstance(answer, Found):
        assert Evaluator(p).allows(answer.witness)
        assert not Evaluator(q).allows(answer.witness)


@st.composite
def policy_sets(draw: st.DrawFn) -> PolicySet:
    return PolicySet(
        (draw(documents(resource=False, variables=False, most=2)),),
        draw(st.none() | documents(resource=True, variables=False, most=2)),
        draw(st.none() | documents(resource=False, variables=False, most=2)),
        draw(st.sampled_from(Relation)),
    )


@settings(max_examples=scaled(100), deadline=None)
@given(policy_sets(), policy_sets(), st.lists(requests(), min_size=5, max_size=15))
def test_atoms_agree_with_the_evaluator_on_sets(p: PolicySet, q: PolicySet, samples: list[Request]):
    answer = find(not_within(p, q))
    a, b = Evaluator(p), Evaluator(q)
    if isinstance(answer, Found):
        assert a.allows(answer.witness)
        assert not b.allows(answer.witness)
    if isinstance(answer, Empty):
        for sample in samples:
            assert b.allows(sample) or not a.allows(sample)


@settings(max_examples=scaled(150), deadline=None)
@given(documents(variables=False), requests())
def test_a_request_alone_is_a_region(p: Document, sample: Request):
    builder = Builder()
    question = builder.question(All((builder.allowed(p), builder.clause(region_of(sample)))))
    assert isinstance(find(question), Found if Evaluator(p).allows(sample) else Empty)


def agree(p: Document | PolicySet, q: Document | PolicySet) -> None:
    """B and C give the same answer, and A confirms what they find."""
    question = not_within(p, q)
    answers = find(question), smt(question, 300)
    for answer in answers:
        if isinstance(answer, Found):
            assert Evaluator(p).allows(answer.witness)
            assert not Evaluator(q).allows(answer.witness)
    assert not any(isinstance(answer, Found) for answer in answers) or not any(
        isinstance(answer, Empty) for answer in answers
    )


@settings(max_examples=scaled(80), deadline=None)
@given(documents(), documents())
def test_smt_agrees(p: Document, q: Document):
    agree(p, q)


@settings(max_examples=scaled(40), deadline=None)
@given(policy_sets(), policy_sets())
def test_smt_agrees_on_sets(p: PolicySet, q: PolicySet):
    agree(p, q)


@settings(max_examples=scaled(40), deadline=None)
@given(documents(variables=False), documents(variables=False))
def test_smt_decides_what_atoms_decide(p: Document, q: Document):
    question = not_within(p, q)
    if not isinstance(find(question), Unknown):
        answer = smt(question)
        # Its time limit is not a matter of logic: on a busy machine it may run out; nothing else may be beyond it.
        assert not isinstance(answer, Unknown) or answer.reason.startswith("engine C: no answer within")


@settings(max_examples=scaled(60), deadline=None)
@given(documents(), requests())
def test_smt_decides_one_request(p: Document, sample: Request):
    builder = Builder()
    answer = smt(builder.question(All((builder.allowed(p), builder.clause(region_of(sample))))))
    assert not isinstance(answer, Empty if Evaluator(p).allows(sample) else Found)
    if not any("${" in repr(statement) for statement in p.statements):
        assert not isinstance(answer, Unknown)


PIECES = st.sampled_from(
    ("*", "?", ":", "/", "a", "ab", "abc", "b", "arn:aws:", "arn:aws:s3:::", "ec2:", "instance/", "")
)
GLOBS = st.one_of(
    st.lists(PIECES, min_size=1, max_size=8).map(lambda parts: resource_glob("".join(parts), variables=False)),
    st.lists(PIECES, min_size=1, max_size=6).map(lambda parts: action_glob("".join(parts))),
    st.lists(PIECES, min_size=1, max_size=6).map(
        lambda parts: text_glob("".join(parts), wildcards=True, variables=False, fold=True)
    ),
)


@settings(max_examples=scaled(300), deadline=None)
@given(
    st.lists(st.tuples(GLOBS, st.integers(1, 7)), min_size=1, max_size=6),
    st.sampled_from((RESOURCES, ACTIONS, CALLERS, TEXTS)),
)
def test_runs_of_characters_skip_no_atom(patterns: list[tuple[Glob, int]], universe: Universe):
    """The automaton read run by run has the atoms, and the lengths of witnesses, that it has character by character."""
    joint = Joint(tuple(Pattern(glob, sets) for glob, sets in patterns), universe)
    slow: dict[int, int] = {}
    seen, queue = {(joint._start, 0)}, [((joint._start, 0), 0)]
    for node, length in queue:
        accepts = joint.accepts(node)
        if accepts is not None:
            slow.setdefault(accepts, length)
        for following, _, _ in joint.edges(node):
            if following not in seen:
                seen.add(following)
                queue.append((following, length + 1))
    fast = dict(joint.atoms())
    assert {sets: len(witness) for sets, witness in fast.items()} == slow
    for sets, witness in fast.items():
        found = 0
        for glob, mask in patterns:
            found |= mask if matcher((glob,))(witness) else 0
        assert found == sets
        assert matcher(universe.globs)(witness)
