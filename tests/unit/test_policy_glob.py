"""Patterns: where wildcards may run, and in what time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medley.policy.glob import (
    Automaton,
    action_glob,
    arn_glob,
    matcher,
    resource_glob,
    substitute,
    text_glob,
)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_text_patterns_are_regular_expressions(pattern: str, text: str):
    expected = re.fullmatch(pattern.replace("*", ".*").replace("?", "."), text) is not None
    glob = text_glob(pattern, wildcards=True, variables=True)
    assert matcher((glob,))(text) is expected
    assert Automaton(glob).matches(text) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("*", "anything:at/all", True),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/x/y:z", True),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::B/x", False),
        ("arn:aws:ec2:*:1:instance/*", "arn:aws:ec2:r:1:instance/i", True),
        # A star that ends a segment may run on past the colon; one inside a segment, and a question mark, may not.
        ("arn:aws:ec2:*", "arn:aws:ec2:r:1:instance/i", True),
        ("arn:aws:dynamodb:*:table/t", "arn:aws:dynamodb:r:1:table/t", True),
        ("arn:aws:ec2:r*1:1:x", "arn:aws:ec2:ra:1:1:x", False),
        ("arn:aws:ec2:?:1:x", "arn:aws:ec2:::1:x", False),
        ("arn:aws:ec2:r:1:a?c", "arn:aws:ec2:r:1:a:c", True),
    ],
)
def test_resource_segments(pattern: str, text: str, expected: bool):
    assert matcher((resource_glob(pattern, variables=False),))(text) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("arn:aws:iam::*:role/x", "arn:aws:iam::1:role/x", True),
        ("arn:aws:iam:*:role/x", "arn:aws:iam::1:role/x", False),
        ("arn:aws:*:b", "arn:aws:s3:::b", None),
        ("arn:aws:s3:::*", "arn:aws:s3:::a:b", True),
    ],
)
def test_arn_operators_keep_segments_apart(pattern: str, text: str, expected: bool | None):
    glob = arn_glob(pattern, variables=False)
    if glob is None or expected is None:
        assert glob is None or not matcher((glob,))(text)
    else:
        assert matcher((glob,))(text) is expected


def test_runs_of_stars_take_linear_time():
    # As a regular expression this pattern takes minutes; a matcher that backtracks would run into the time limit.
    glob = text_glob("*" * 40 + "a" + "*a" * 40 + "*b", wildcards=True, variables=False)
    assert not matcher((glob,))("a" * 20_000)
    assert not Automaton(glob).matches("a" * 20_000)


def test_variables():
    glob = resource_glob("arn:aws:s3:::b/${aws:UserName}/*", variables=True)
    assert glob.variables == {"aws:username"}
    assert substitute(glob, {}) is None
    named = substitute(glob, {"aws:username": "b*b"})
    assert named is not None
    assert matcher((named,))("arn:aws:s3:::b/b*b/x")
    assert not matcher((named,))("arn:aws:s3:::b/bob/x")  # a wildcard in a value is a character
    default = substitute(text_glob("${aws:x, 'team'}-${*}", wildcards=True, variables=True), {})
    assert default is not None
    assert matcher((default,))("team-*")
    assert not matcher((default,))("team-x")


def test_actions_fold_ascii_alone():
    match = matcher((action_glob("ec2:Kill*"),))
    assert match("ec2:killall")
    assert not match("ec2:\u212aill")  # the Kelvin sign
