"""The reader of IAM documents: lossless on what it takes, precise on what it refuses."""

import json

import pytest
from hypothesis import given, settings

from medley.model.errors import UserError
from medley.policy.iam.document import Document, DocumentKind
from medley.policy.iam.parse import document_of, parse_document
from medley.policy.iam.render import document_text, document_value, size_characters
from policy_strategies import documents

BASE = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}


def changed(**fields: object) -> str:
    statement = {**BASE["Statement"][0], **fields}
    return json.dumps({"Version": "2012-10-17", "Statement": [{k: v for k, v in statement.items() if v is not ...}]})


@settings(max_examples=150, deadline=None)
@given(documents())
def test_printing_and_reading_gives_the_document_back(document: Document):
    value = document_value(document)
    assert document_value(parse_document(document_text(document))) == value
    assert document_of(value) == document


def test_what_was_written_is_kept():
    value = {
        "Version": "2008-10-17",
        "Id": "x",
        "Statement": {
            "Sid": "a",
            "Effect": "Deny",
            "NotPrincipal": {"AWS": ["*"], "Service": "ec2.amazonaws.com"},
            "NotAction": "iam:*",
            "NotResource": ["arn:aws:s3:::b"],
            "Condition": {"Bool": {"aws:SecureTransport": False}, "NumericEquals": {"s3:max-keys": [1, 2.5]}},
        },
    }
    assert document_value(document_of(value)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"Statement": [', "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"Statement": [], "Statement": []}', "document: $: the key 'Statement' is there twice"),
        ('{"Statement": [{"Effect": "Allow", "Effect": "Deny"}]}', "$.Statement[0]: the key 'Effect' is there twice"),
        ('{"Statement": [{"Effect": NaN}]}', "NaN"),
        ('{"Statement": [{"Sid": "\\ud800"}]}', "surrogate"),
        ("{}", "has no Statement"),
        ('{"Statement": 3}', "$.Statement: is neither an object nor a list"),
        ('{"Version": "2013-01-01", "Statement": []}', "$.Version"),
        ('{"Statments": []}', "Did you mean Statement?"),
        (changed(Effect=...), "$.Statement[0]: has no Effect"),
        (changed(Effect="allow"), "$.Statement[0].Effect: 'allow' is no effect"),
        (changed(Action=...), "neither Action nor NotAction"),
        (changed(NotAction="*"), "has both Action and NotAction"),
        (changed(Action=[]), "$.Statement[0].Action: is an empty list"),
        (changed(Action=["s3:GetObject", 3]), "$.Statement[0].Action[1]: is not a text"),
        (changed(Action="GetObject"), "$.Statement[0].Action: 'GetObject' is no action"),
        (changed(Action="s3:ＧetObject"), "is not ASCII"),
        (changed(Action="ec2\u200b:RunInstances"), "is not ASCII"),
        (changed(Resource=...), "neither Resource nor NotResource"),
        (changed(Resource="s3:bucket"), "is no ARN"),
        (changed(Resource=["*", "arn:awz:s3:::b"]), "$.Statement[0].Resource[1]: 'awz' is no AWS partition"),
        (changed(Principal={"AWS": "x"}, Resource="*", Sid=3), "$.Statement[0].Sid"),
        (changed(Principal={"Aws": "x"}), "Did you mean AWS?"),
        (changed(Principal={}), "names nobody"),
        (changed(Condition=[]), "is not an object of operators"),
        (changed(Condition={"StringEqual": {"a:b": "c"}}), "Did you mean StringEquals?"),
        (changed(Condition={"NullIfExists": {"a:b": "true"}}), "no condition operator"),
        (changed(Condition={"StringEquals": {"a:b": {"c": 1}}}), "$.Statement[0].Condition.StringEquals.a:b"),
        (changed(Condition={"StringEquals": {"a:b": "1", "A:B": "2"}}), "is the same key as 'a:b'"),
        (changed(Condition={"NumericEquals": {"a:b": "one"}}), "'one' is not a number"),
        (changed(Condition={"DateLessThan": {"a:b": "2024-13-01"}}), "is not a date"),
        (changed(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}), "is not an IP prefix"),
        (changed(Condition={"Bool": {"a:b": "yes"}}), "neither true nor false"),
        (changed(Condition={"BinaryEquals": {"a:b": "?"}}), "not base64"),
    ],
)
def test_bad_input_is_refused_with_its_place(text: str, said: str):
    with pytest.raises(UserError) as error:
        parse_document(text)
    assert said in str(error.value)


def test_a_document_of_ten_megabytes_is_refused_at_once():
    with pytest.raises(UserError, match="characters long"):
        parse_document(" " * 10_000_000)


def test_kinds():
    with pytest.raises(UserError, match="names a principal"):
        parse_document(changed(Principal="*"), kind=DocumentKind.IDENTITY)
    with pytest.raises(UserError, match="has no Principal"):
        parse_document(changed(), kind=DocumentKind.RESOURCE)
    # A trust policy has no Resource.
    assert parse_document(changed(Principal="*", Resource=...)).kind is DocumentKind.RESOURCE


def test_size_is_counted_without_white_space():
    document = parse_document(changed())
    assert size_characters(document) == len(json.dumps(BASE, separators=(",", ":")))
