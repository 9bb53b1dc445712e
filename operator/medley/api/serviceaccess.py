"""`spec.access` of an LLMService: what its pods may reach outside the cluster, and as whom."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, model_validator

from medley.api.fields import ApiModel, K8s, ObjectName, cel
from medley.model.objects import ServiceKey
from medley.policy.generate.inputs import RouterNeeds, ServiceNeeds, bucket_prefix

_S3 = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.'()=@+,-]+)+/?$"
_ARN = r"^arn:aws[a-z-]*:{}:[a-z0-9-]+:[0-9]{{12}}:{}$"
_STATEMENT = K8s(
    **{
        "x-kubernetes-preserve-unknown-fields": True,
        "required": ["Effect"],
        "properties": {"Effect": {"type": "string", "enum": ["Allow", "Deny"]}},
    }
)
MAX_STATEMENT_CHARACTERS = 6144

S3Uri = Annotated[str, Field(max_length=600, pattern=_S3)]
Statement = Annotated[dict[str, Any], Field(max_length=8, json_schema_extra=_STATEMENT)]


class AccessSpec(ApiModel):
    """What the engine's pods may reach."""

    service_account_name: ObjectName | None = Field(
        None, description="ServiceAccount of the engine's pods; of this service alone. Unset: the namespace's default."
    )
    model_uri: S3Uri | None = Field(None, description="Where the pods read the model: s3://BUCKET/PREFIX.")
    cache_uri: S3Uri | None = Field(
        None, description="Where they read and write what they keep, such as compiled kernels: s3://BUCKET/PREFIX."
    )
    kms_key_arn: Annotated[str, Field(max_length=200, pattern=_ARN.format("kms", "key/[0-9a-z-]{1,64}"))] | None = (
        Field(None, description="Key that these objects are encrypted with. Unset: none of your own.")
    )
    image_repository_arn: (
        Annotated[str, Field(max_length=400, pattern=_ARN.format("ecr", "repository/[a-z0-9._/-]{1,256}"))] | None
    ) = Field(None, description="ECR repository of the engine's image, which the nodes pull.")
    statements: list[Statement] | None = Field(
        None,
        max_length=16,
        description="IAM statements of your own for the pods' role, as JSON objects. Merged, verified and repaired "
        "before use.",
    )

    @model_validator(mode="after")
    def _needs(self) -> AccessSpec:
        stores = self.model_uri is not None or self.cache_uri is not None
        if stores and self.service_account_name is None:
            raise ValueError("set serviceAccountName: the role is given to it")
        if self.service_account_name == "default":
            raise ValueError("serviceAccountName: every pod without another account runs as default")
        if (self.kms_key_arn is not None or self.statements) and not stores:
            raise ValueError("kmsKeyArn and statements need modelUri or cacheUri, whose role they are for")
        for number, statement in enumerate(self.statements or []):
            if statement.get("Effect") not in ("Allow", "Deny"):
                raise ValueError(f"statements[{number}].Effect: is neither Allow nor Deny")
            if len(json.dumps(statement)) > MAX_STATEMENT_CHARACTERS:
                raise ValueError(f"statements[{number}]: longer than {MAX_STATEMENT_CHARACTERS:,} characters")
        return self


_STORES = "(has(self.access.modelUri) || has(self.access.cacheUri))"
ACCESS_RULES = cel(
    (
        f"!has(self.access) || has(self.access.serviceAccountName) || !{_STORES}",
        "access: set serviceAccountName: the role is given to it",
    ),
    (
        "!has(self.access) || !has(self.access.serviceAccountName) || self.access.serviceAccountName != 'default'",
        "access.serviceAccountName: every pod without another account runs as default",
    ),
    (
        f"!has(self.access) || {_STORES} || (!has(self.access.kmsKeyArn) && "
        "(!has(self.access.statements) || size(self.access.statements) == 0))",
        "access: kmsKeyArn and statements need modelUri or cacheUri, whose role they are for",
    ),
)


def to_needs(
    key: ServiceKey, access: AccessSpec | None, router: RouterNeeds | None = None, role: str | None = None
) -> ServiceNeeds:
    """What policies are generated from.

    Raises:
        UserError: a value that the schema lets through is none: the field and the fix.
    """
    if access is None:
        return ServiceNeeds(key, router=router, role=role)
    places = {}
    for name, uri in (("modelUri", access.model_uri), ("cacheUri", access.cache_uri)):
        places[name] = None if uri is None else bucket_prefix(uri, f"LLMService/{key} spec.access.{name}")
    return ServiceNeeds(
        key,
        access.service_account_name,
        places["modelUri"],
        places["cacheUri"],
        access.kms_key_arn,
        access.image_repository_arn,
        router,
        role,
    )
