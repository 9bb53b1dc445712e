"""Request lists made from a policy, in CloudFix's format: for trying repairs, and for measuring them.

Re-written from the description of CloudFix's generator (arXiv 2512.09957 and its read-me): 60 % must be allowed, 40 %
denied, taken in turn from pools. Allowed: the policy's own actions, wildcards filled in, and actions of common
services. Denied: actions of the same services that the policy does not name, actions that do not exist, and altered
ARNs. Principal and Condition are there where the policy has them; for a share of the requests both are rewritten, so
that the policy as it stands decides them wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from medley.policy.catalogue import catalogue, sample_arn
from medley.policy.iam.document import Condition, Document, Effect, Sense, Statement
from medley.policy.iam.operators import Base, Domain
from medley.policy.iam.request import ascii_lower
from medley.policy.iam.values import address_text, instant_of, instant_text, number_of, number_text, range_of, text_of


class Random(Protocol):
    """Where randomness comes from: `random.Random` has these."""

    def random(self) -> float:
        """A number from 0 up to 1."""
        ...

    def randrange(self, start: int, stop: int | None = None) -> int:
        """A whole number below a bound, or from one up to another."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """A number of so many bits."""
        ...

    def choice(self, seq: Sequence[str]) -> str:
        """One of the items."""
        ...


ALLOW_SHARE = 0.6
COMMON_ACTIONS = (
    "s3:GetObject", "s3:PutObject", "ec2:DescribeInstances", "ec2:StartInstances", "iam:GetRole", "kms:Decrypt",
    "lambda:InvokeFunction", "dynamodb:GetItem", "dynamodb:PutItem", "sqs:SendMessage", "sns:Publish",
    "logs:PutLogEvents", "cloudwatch:PutMetricData", "ssm:GetParameter", "secretsmanager:GetSecretValue",
    "ecr:BatchGetImage", "ecs:RunTask", "eks:DescribeCluster", "rds:DescribeDBInstances", "glue:GetTable",
    "athena:StartQueryExecution", "kinesis:PutRecord", "states:StartExecution", "events:PutEvents",
    "route53:ListHostedZones", "cloudformation:DescribeStacks", "autoscaling:DescribeAutoScalingGroups",
    "elasticloadbalancing:DescribeLoadBalancers", "sts:AssumeRole", "codebuild:StartBuild",
)  # fmt: skip
"""An action of each of 28 common services."""


def generate(document: Document, count: int, rng: Random, misclassified: float = 0.7) -> dict[str, Any]:
    """`{"Requests": […]}` with `count` requests."""
    allows = round(count * ALLOW_SHARE)
    maker = _Maker(document, rng)
    seen: set[tuple[str, str]] = set()
    requests: list[dict[str, Any]] = []
    for number in range(count):
        effect = "Allow" if number < allows else "Deny"
        for attempt in range(50):
            item = maker.allowed(number + attempt) if effect == "Allow" else maker.denied(number + attempt)
            if (item["Action"], item["Resource"]) not in seen:
                break
        seen.add((item["Action"], item["Resource"]))
        maker.complete(item, altered=rng.random() < misclassified)
        requests.append({"id": f"{effect.lower()}_{rng.getrandbits(32):08x}", "Effect": effect, **item})
    return {"Requests": requests}


class _Maker:
    def __init__(self, document: Document, rng: Random) -> None:
        self._rng = rng
        allows = [statement for statement in document.statements if statement.effect is Effect.ALLOW]
        self._statements: Sequence[Statement] = allows or document.statements
        self._principals = [
            entry.items[0]
            for statement in document.statements
            if statement.principal is not None
            for entry in statement.principal.entries
        ]
        self._has_principal = any(statement.principal is not None for statement in document.statements)
        self._conditions = [condition for statement in document.statements for condition in statement.conditions]

    def allowed(self, turn: int) -> dict[str, Any]:
        """A request like what the policy gives, or every third one from a common service."""
        if turn % 3 == 2 or not self._statements:
            action = COMMON_ACTIONS[turn % len(COMMON_ACTIONS)]
            return {"Action": action, "Resource": self._resource_for(action)}
        statement = self._statements[turn % len(self._statements)]
        return {"Action": self._action(statement), "Resource": self._resource(statement)}

    def denied(self, turn: int) -> dict[str, Any]:
        """A request beside what the policy gives."""
        if not self._statements:
            return {"Action": f"s3:denied-{self._rng.getrandbits(16):04x}", "Resource": "arn:aws:s3:::denied"}
        statement = self._statements[turn % len(self._statements)]
        action, resource = self._action(statement), self._resource(statement)
        service = action.partition(":")[0]
        kind = turn % 3
        if kind == 0:
            others = [found.name for found in catalogue().by_service.get(service, ())]
            named = {ascii_lower(item) for item in statement.action.items}
            others = [name for name in others if ascii_lower(name) not in named]
            action = self._rng.choice(others) if others else f"{service}:DeniedAction"
        elif kind == 1:
            action = f"{service}:denied-{self._rng.getrandbits(16):04x}"
        else:
            resource = (
                f"{resource}-denied-{self._rng.getrandbits(16):04x}" if resource != "*" else "arn:aws:s3:::denied"
            )
        return {"Action": action, "Resource": resource}

    def complete(self, item: dict[str, Any], *, altered: bool) -> None:
        """Adds the fields that the policy has."""
        if self._has_principal:
            own = self._rng.choice(self._principals) if self._principals else "*"
            if altered or own == "*" or not own.startswith("arn:"):
                own = f"arn:aws:iam::{self._rng.randrange(10**11, 10**12)}:user/user-{self._rng.getrandbits(16):04x}"
            item["Principal"] = own
        blocks: dict[str, dict[str, Any]] = {}
        for condition in self._conditions:
            name, value = sample_condition(condition, self._rng, altered=altered)
            if value is not None and not any(condition.key in block for block in blocks.values()):
                blocks.setdefault(name, {})[condition.key] = value
        if blocks:
            item["Condition"] = blocks

    def _action(self, statement: Statement) -> str:
        if statement.action.sense is Sense.NOT_IN:
            return self._rng.choice(COMMON_ACTIONS)
        pattern = self._rng.choice(statement.action.items)
        if "*" not in pattern and "?" not in pattern:
            return pattern
        if pattern.strip("*") == "":
            return self._rng.choice(COMMON_ACTIONS)
        found = [action.name for action in catalogue().expand(pattern)]
        return self._rng.choice(found) if found else fill(pattern, self._rng)

    def _resource(self, statement: Statement) -> str:
        if statement.resource is None or statement.resource.sense is Sense.NOT_IN:
            return self._resource_for(self._action(statement))
        pattern = self._rng.choice(statement.resource.items)
        return self._resource_for(self._action(statement)) if pattern == "*" else fill(pattern, self._rng)

    def _resource_for(self, action: str) -> str:
        known = catalogue().get(action)
        return sample_arn(self._rng.choice(known.arns)) if known is not None and known.arns else "*"


def fill(pattern: str, rng: Random) -> str:
    """A text that the pattern matches: wildcards become short names, variables become `sample`."""
    out = []
    inside = False
    for position, character in enumerate(pattern):
        if pattern[position : position + 2] == "${":
            inside = True
            out.append("sample")
        if not inside:
            if character == "*":
                out.append(f"item{rng.randrange(1000)}")
            elif character == "?":
                out.append("x")
            else:
                out.append(character)
        elif character == "}":
            inside = False
    return "".join(out)


def sample_condition(condition: Condition, rng: Random, *, altered: bool) -> tuple[str, Any]:
    """An operator name and a value for a condition's key: one that the condition accepts, or `altered` another."""
    operator = condition.operator
    text = rng.choice([text_of(value) for value in condition.values]) if condition.values else ""
    wants = altered is operator.negated
    if operator.base is Base.NULL:
        return "StringEquals", f"value-{rng.getrandbits(16):04x}" if (text == "false") is not altered else None
    if operator.domain is Domain.IP:
        found = range_of(text)
        assert found is not None
        version, low, high = found
        inside = address_text(version, low + (high - low) // 2)
        return "IpAddress", inside if wants else f"198.51.100.{rng.randrange(1, 255)}"
    if operator.domain in (Domain.NUMERIC, Domain.DATE):
        numeric = operator.domain is Domain.NUMERIC
        number = number_of(text) if numeric else instant_of(text)
        assert number is not None
        step = -1 if "Less" in operator.base.value else 1 if "Greater" in operator.base.value else 0
        moved = number + (step if not altered else -step if step else 1)
        return ("NumericEquals", number_text(moved)) if numeric else ("DateEquals", instant_text(moved))
    if operator.base is Base.BOOL:
        flipped = "false" if ascii_lower(text) == "true" else "true"
        return "Bool", flipped if altered else ascii_lower(text)
    return "StringEquals", fill(text, rng) if wants else f"other-{rng.getrandbits(16):04x}"
