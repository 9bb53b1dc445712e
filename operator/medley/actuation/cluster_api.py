"""A small JSON client for the API server: paths in, plain dicts out, watches that survive what happens to watches.

Everything read from or written to a cluster goes through here. Much of it is partial: server-side apply of our own
fields, status of pods and nodes in the lab. Plain JSON serves that best: unlike typed models it rejects no field.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException

from medley.model.errors import MedleyError, TransientError, UserError

Json = dict[str, Any]
"""A Kubernetes object or a part of one."""

NOT_FOUND = HTTPStatus.NOT_FOUND
CONFLICT = HTTPStatus.CONFLICT
GONE = HTTPStatus.GONE

_TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


class PatchType(StrEnum):
    """How the server merges a patch into the object."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"


class ApiError(MedleyError):
    """The API server refused a request; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class ClusterApi:
    """One API server. Safe to use from several threads.

    Args:
        kubeconfig: how to reach it; None: as the ServiceAccount of the pod that this runs in.
        may_write: asked before each write; where it says no, nothing is sent.
        timeout_s: for a connection, and again for the answer.
        write_timeout_s: the same for writes: nothing is sent later than that.
    """

    def __init__(
        self,
        kubeconfig: Path | None,
        may_write: Callable[[], bool] = lambda: True,
        timeout_s: float = _TIMEOUT_S,
        write_timeout_s: float | None = None,
    ) -> None:
        self._may_write = may_write
        self._timeout_s = timeout_s
        self._write_timeout_s = timeout_s if write_timeout_s is None else write_timeout_s
        try:
            settings = Configuration()
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            else:
                config.load_kube_config(config_file=str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
            # A server that is busy says when to read again. Writes are never sent again by the transport: they could go
            # out long after they were decided, and after another may lead.
            settings.retries = urllib3.Retry(
                total=3, connect=0, read=0, other=0, allowed_methods={"GET"}, raise_on_status=False
            )
            self._client = ApiClient(settings)
        except config.ConfigException as error:
            fix = "Name a kubeconfig with a current context, or run in a pod with a ServiceAccount token"
            raise UserError(str(error), field=str(kubeconfig or "in-cluster configuration"), fix=fix) from error

    def get(self, path: str, **query: str) -> Json:
        """Reads one object or a list."""
        return self._call("GET", path, query=query)

    def items(self, path: str, **query: str) -> list[Json]:
        """The objects of a list."""
        found: list[Json] = self.get(path, **query).get("items") or []
        return found

    def create(self, path: str, body: Json) -> Json:
        """Creates an object in the collection at `path`."""
        return self._call("POST", path, body=body)

    def patch(self, path: str, body: Json | list[Json], kind: PatchType = PatchType.MERGE, **query: str) -> Json:
        """Patches the object (or its subresource) at `path`."""
        return self._call("PATCH", path, body=body, content_type=kind.value, query=query)

    def delete(
        self,
        path: str,
        *,
        grace_period_s: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Deletes the object at `path`; one that is gone, or not of this `uid`, is fine; another version is not."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        wanted = {"uid": uid, "resourceVersion": resource_version}
        if any(wanted.values()):
            options["preconditions"] = {key: value for key, value in wanted.items() if value is not None}
        try:
            self._call("DELETE", path, body=options)
        except ApiError as error:
            # Another one than `uid` is none of ours; another version of ours is, and was not meant.
            if error.status != NOT_FOUND and (error.status != CONFLICT or resource_version is not None):
                raise

    def exists(self, path: str) -> bool:
        """Whether there is an object at `path`."""
        try:
            self.get(path)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True

    def open(self, path: str, query: Mapping[str, str], read_timeout_s: float) -> urllib3.HTTPResponse:
        """Opens a streaming request; the caller reads and closes it."""
        return self._send("GET", path, query=query, read_timeout_s=read_timeout_s)

    def close(self) -> None:
        """Lets the connections go."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Json | list[Json] | None = None,
        content_type: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        response = self._send(method, path, query=query or {}, body=body, content_type=content_type)
        try:
            result: Json = json.loads(response.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            # A proxy in between may answer 200 with a page of its own.
            raise TransientError(f"{method} {path}: {error}") from error
        return result

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: Json | list[Json] | None = None,
        content_type: str | None = None,
        read_timeout_s: float | None = None,
    ) -> urllib3.HTTPResponse:
        if method != "GET" and not self._may_write():
            raise TransientError(f"{method} {path}: not sent: this operator does not lead")
        headers = {"Accept": "application/json", "Content-Type": content_type or "application/json"}
        url = f"{path}?{urlencode(query)}" if query else path
        request = self._client.param_serialize(
            method, url, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        connect_s = self._timeout_s if method == "GET" else self._write_timeout_s
        timeout_s = connect_s, connect_s if read_timeout_s is None else read_timeout_s
        try:
            response: urllib3.HTTPResponse = self._client.call_api(*request, _request_timeout=timeout_s).response
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise _refusal(method, path, response)
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            raise TransientError(f"{method} {path}: the API server did not answer: {error}") from error
        return response


def _refusal(method: str, path: str, response: urllib3.HTTPResponse) -> MedleyError:
    text = response.data.decode(errors="replace")
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("message", text)
    message = f"{method} {path}: {response.status}: {text}"
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status == HTTPStatus.TOO_MANY_REQUESTS:
        return TransientError(message)
    return ApiError(response.status, message)


class Mirror:
    """Keeps a callback informed about all objects of one list, in a thread of its own.

    `on_object` gets every object that is new or changed, and again all of them after the watch had to be renewed by a
    list; `on_gone` gets those that vanished, also when that happened while the watch was down. Errors of the server,
    dead connections and expired watches (410) lead to another list after a pause, never to the end of the thread. So
    does a TransientError of a callback, which is thereby told again.
    """

    _PAUSES_S = (0.1, 0.3, 1.0, 3.0)
    _WATCH_S = 240
    _READ_TIMEOUT_S = 90.0  # bookmarks come about once a minute: a stream that is silent for longer is dead

    def __init__(
        self,
        api: ClusterApi,
        path: str,
        *,
        on_object: Callable[[Json], None],
        on_gone: Callable[[Json], None],
        **query: str,
    ) -> None:
        self._api = api
        self._path = path
        self._query = query
        self._on_object = on_object
        self._on_gone = on_gone
        self._known: dict[str, Json] = {}
        self._stopping = threading.Event()
        self._stream: urllib3.HTTPResponse | None = None
        self._synced = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror {path}", daemon=True)

    def start(self) -> None:
        """Starts to list and watch."""
        self._thread.start()

    def wait_synced(self, timeout_s: float) -> bool:
        """Waits for the end of the first list."""
        return self._synced.wait(timeout_s)

    def stop(self) -> None:
        """Ends the watch; no callback runs after this returns. Safe to call again."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(Exception):  # it may be closing by itself at this very moment
                stream.shutdown()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                version = self._list()
                self._synced.set()
                failures = 0
                while not self._stopping.is_set():
                    version = self._watch(version)
            except MedleyError as error:
                if self._stopping.is_set():
                    return
                level = logging.DEBUG if isinstance(error, ApiError) and error.status == GONE else logging.WARNING
                _log.log(level, "watch of %s: %s; listing again", self._path, error)
                self._stopping.wait(self._PAUSES_S[min(failures, len(self._PAUSES_S) - 1)])
                failures += 1

    def _list(self) -> str:
        answer = self._api.get(self._path, **self._query)
        fresh = {item["metadata"]["uid"]: item for item in answer.get("items") or []}
        for uid in [uid for uid in self._known if uid not in fresh]:
            self._tell(self._on_gone, self._known.pop(uid))
        for uid, item in fresh.items():
            self._known[uid] = item
            self._tell(self._on_object, item)
        version: str = answer["metadata"]["resourceVersion"]
        return version

    def _watch(self, version: str) -> str:
        """Follows one stream to its end and gives back the version to go on from."""
        for event in self._events(version):
            item: Json = event["object"]
            if event["type"] == "ERROR":
                raise ApiError(int(item.get("code", GONE)), str(item.get("message", "watch failed")))
            metadata = item["metadata"]
            version = metadata["resourceVersion"]
            if event["type"] == "DELETED":
                self._known.pop(metadata["uid"], None)
                self._tell(self._on_gone, item)
            elif event["type"] != "BOOKMARK":
                self._known[metadata["uid"]] = item
                self._tell(self._on_object, item)
        return version

    def _events(self, version: str) -> Iterator[Json]:
        query = {
            **self._query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._WATCH_S),
        }
        stream = self._stream = self._api.open(self._path, query, self._READ_TIMEOUT_S)
        buffer = b""
        try:
            # read1 gives what has come; larger reads would wait for a full block and hold events back.
            while not self._stopping.is_set() and (chunk := stream.read1()):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise TransientError(f"the stream broke: {error}") from error
        finally:
            self._stream = None
            stream.close()

    def _tell(self, callback: Callable[[Json], None], item: Json) -> None:
        if self._stopping.is_set():
            return
        try:
            callback(item)
        except TransientError:  # it could not act on this now: list again, so that it is told again
            raise
        except Exception:  # a broken callback must not end the watch for everybody else
            _log.exception("handling %s %s", self._path, item["metadata"]["name"])
