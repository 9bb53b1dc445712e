"""AccessPolicies of what Medley generates: the spec comes from the service and the cluster's place in its cloud."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from medley.actuation.cluster_api import NOT_FOUND, ApiError, ClusterApi
from medley.actuation.routing import config_map_name
from medley.api.accesspolicy import AccessPolicySpec
from medley.api.convert import user_error
from medley.api.serviceaccess import AccessSpec, to_needs
from medley.controller.access.sources import Source, Sources
from medley.model.errors import UserError
from medley.model.objects import API_VERSION, ServiceKey
from medley.policy.generate import ClusterEnvironment, Part, PartName, RouterNeeds, service_parts
from medley.policy.rbac.document import Kind

Json = dict[str, Any]


class GeneratedSources:
    """Makes the sources of generated policies.

    Args:
        api: to read the services.
        environment: the cluster's place in its cloud; None: only Kubernetes' own policies can be generated.
    """

    def __init__(self, api: ClusterApi, environment: ClusterEnvironment | None) -> None:
        self._api = api
        self._environment = environment

    def of(self, namespace: str, spec: AccessPolicySpec, sources: Sources) -> Source:
        """The source for one AccessPolicy.

        Raises:
            UserError: there is no such service, or nothing of this kind is generated for it.
        """
        assert spec.generated is not None
        key = ServiceKey(namespace, spec.generated.service)
        access = self._access(key)
        account = spec.generated.router_account
        if account is not None:
            part = _part(
                service_parts(to_needs(key, None, RouterNeeds(account, config_map_name(key.name)))), PartName.ROUTER
            )
            return sources.roles(spec, _roles_of(part), part.spec_text)
        assert spec.iam_role_ref is not None
        if self._environment is None:
            raise UserError(
                "this process does not know the cluster's place in AWS",
                field="spec.generated",
                fix="Start it with --aws-account, --region and --cluster",
            )
        if access is None:
            raise UserError(
                f"LLMService {key} has no spec.access", field="spec.generated", fix="Say what its pods reach"
            )
        parts = service_parts(to_needs(key, access, role=spec.iam_role_ref.name), self._environment)
        trust = spec.iam_role_ref.part == "Trust"
        part = _part(parts, PartName.POD_TRUST if trust else PartName.POD_POLICY)
        source = sources.iam_role(spec, part.spec_text)
        source = replace(source, ceilings=tuple(dict.fromkeys((*source.ceilings, *part.ceilings))))
        if not access.statements or trust:
            return source
        # Merged in the review, where there is a time limit.
        return replace(source, part=part, statements=tuple(json.dumps(found) for found in access.statements))

    def _access(self, key: ServiceKey) -> AccessSpec | None:
        try:
            manifest = self._api.get(f"/apis/{API_VERSION}/namespaces/{key.namespace}/llmservices/{key.name}")
        except ApiError as error:
            if error.status == NOT_FOUND:
                raise UserError(f"there is no LLMService {key}", field="spec.generated.service") from error
            raise
        found = (manifest.get("spec") or {}).get("access")
        try:
            return None if found is None else AccessSpec.model_validate(found)
        except ValidationError as error:
            raise user_error(error) from None


def _part(parts: tuple[Part, ...], name: PartName) -> Part:
    found = next((part for part in parts if part.name is name), None)
    if found is None:
        raise UserError(f"nothing is generated as {name.value}", field="spec.generated", fix="See spec.access")
    return found


def _roles_of(part: Part) -> tuple[tuple[Kind, str, str], ...]:
    assert isinstance(part.document, list)
    return tuple(
        (Kind(item["kind"]), item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for item in part.document
        if item["kind"] in (Kind.ROLE.value, Kind.CLUSTER_ROLE.value)
    )
