"""Building blocks of the API models: the base class and the bounded strings, lists and quantities they share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Base of everything in a CRD: camelCase outside, snake_case inside, frozen, unknown fields are errors."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
    )


class K8s:
    """Schema keys that pydantic does not know, kept beside the field and merged into the CRD by the generator."""

    def __init__(self, **keys: Any) -> None:
        self.keys = keys

    def __call__(self, schema: dict[str, Any]) -> None:
        """Merge into a JSON schema (pydantic's `json_schema_extra`)."""
        schema.update(self.keys)


def cel(*rules: tuple[str, str]) -> list[dict[str, str]]:
    """CEL validations: (rule, message) pairs."""
    return [{"rule": rule, "message": message} for rule, message in rules]


DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_NAME)]
Text = Annotated[str, Field(min_length=1, max_length=253)]
LongText = Annotated[str, Field(max_length=1024)]
# Prices are strings so that no client rounds them: 0.8048 is not a binary fraction.
Price = Annotated[str, Field(max_length=20, pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]
Milliseconds = Annotated[float, Field(gt=0, le=3_600_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
