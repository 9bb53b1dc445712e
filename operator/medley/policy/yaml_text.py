"""YAML text to plain values, strictly: one value per key, no aliases, dates stay text.

PyYAML keeps the last of two equal keys; in a policy that drops a restriction without a word.
"""

from __future__ import annotations

from typing import Any

import yaml

from medley.model.errors import UserError
from medley.policy.json_text import MAX_CHARACTERS, check_texts

_CORE = "tag:yaml.org,2002:"
_TAGS = {_CORE + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, and aliases, which let a small file be huge."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name): write it out")
        node = super().compose_node(parent, index)
        if node is not None and node.tag not in _TAGS:
            raise yaml.YAMLError(f"it has a tag ({node.tag}), line {node.start_mark.line + 1}: leave it out")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key is no text, line {key_node.start_mark.line + 1}")
            if key_node.tag == "tag:yaml.org,2002:merge":
                # Parsers do not agree which of two values counts: kubectl's takes another than this one.
                raise yaml.YAMLError(f"it has a merge key (<<), line {key_node.start_mark.line + 1}: write it out")
            if key_node.value in seen:
                raise yaml.YAMLError(f"the key {key_node.value!r} is there twice, line {key_node.start_mark.line + 1}")
            seen.add(key_node.value if isinstance(key_node.value, str) else None)
        return super().construct_mapping(node, deep)


# Dates stay text: a spec compares keys as AWS writes them, and Kubernetes has no dates either.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, found) for tag, found in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, name: str) -> Any:
    """The value of a text of one YAML document; `name` (a file name, as a rule) starts the path in errors.

    Raises:
        UserError: too long, not YAML, a duplicate key or an alias.
    """
    documents = read_yaml_stream(text, name)
    if len(documents) > 1:
        raise UserError(f"has {len(documents)} YAML documents", field=name, fix="Give one")
    return documents[0] if documents else None


def read_yaml_stream(text: str, name: str) -> list[Any]:
    """The values of all documents of a YAML text."""
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"is {len(text):,} characters long, more than the {MAX_CHARACTERS:,} that are read", field=name)
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise UserError(f"is not YAML: {error}", field=name) from None
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:
        # A value that is not of the type that its tag says.
        raise UserError(f"is not YAML: {type(error).__name__}", field=name) from None
    for document in documents:
        check_texts(document, name)
    return documents
