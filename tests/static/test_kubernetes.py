"""What is in kubernetes/: it can be read, and its parts speak of the same things as the code."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxypool.core import config_file
from proxypool.core.cni_config import ANNOTATION, ANNOTATIONS_CAPABILITY, VERSIONS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "kubernetes"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))
SCRIPTS = [FOLDER / "cni/proxypool", FOLDER / "install-cni"]


def objects(name: str) -> dict[str, Any]:
    """The objects of a manifest by their kind."""
    return {document["kind"]: document for document in yaml.safe_load_all((FOLDER / name).read_text())}


HOST = objects("proxypool-host.yaml")
POD = HOST["DaemonSet"]["spec"]["template"]["spec"]
CONTAINERS = {item["name"]: item for item in [*POD["initContainers"], *POD["containers"]]}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_object_has_what_kubernetes_asks_of_all(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    for document in documents:
        assert document["apiVersion"]
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", document["metadata"]["name"])


def test_the_agents_configuration_is_valid() -> None:
    parsed = config_file.parse(HOST["ConfigMap"]["data"]["proxypool.toml"], what="ConfigMap")
    assert parsed.host is not None
    assert parsed.run_dir == "/run/proxypool", "the plug-in looks for the socket there"
    for probe in ("readinessProbe", "livenessProbe"):
        assert f"{parsed.run_dir}/host.sock" in CONTAINERS["agent"][probe]["exec"]["command"]


def test_the_entry_is_the_same_in_all_places() -> None:
    entry = json.loads((FOLDER / "cni/entry.json").read_text())
    assert entry == json.loads(HOST["ConfigMap"]["data"]["entry.json"])
    assert entry == {"type": "proxypool", "capabilities": {ANNOTATIONS_CAPABILITY: True}}


def test_the_versions_are_the_same_in_all_places() -> None:
    known = [
        json.loads(f"[{text}]") for text in re.findall(r'\[("0\.3\.0".*?)\]', "".join(map(Path.read_text, SCRIPTS)))
    ]
    assert known == [list(VERSIONS)] * 2


def test_the_annotation_is_the_same_in_all_places() -> None:
    assert objects("example-pod.yaml")["Pod"]["metadata"]["annotations"] == {ANNOTATION: "s1"}
    assert f"'{ANNOTATION}'" in (FOLDER / "annotation-policy.yaml").read_text()


def test_the_agent_lives_in_the_nodes_network_without_rights_in_the_cluster() -> None:
    assert set(HOST) == {"Namespace", "ServiceAccount", "ConfigMap", "DaemonSet"}, "no role, no binding"
    assert POD["hostNetwork"] is True
    assert POD["dnsPolicy"] == "Default"
    assert POD["automountServiceAccountToken"] is False
    assert HOST["ServiceAccount"]["automountServiceAccountToken"] is False
    assert {POD["serviceAccountName"]} == {HOST["ServiceAccount"]["metadata"]["name"]}
    selector = HOST["DaemonSet"]["spec"]["selector"]["matchLabels"]
    assert selector == HOST["DaemonSet"]["spec"]["template"]["metadata"]["labels"]


def test_only_what_ends_at_once_is_privileged() -> None:
    privileged = [name for name, item in CONTAINERS.items() if item["securityContext"].get("privileged")]
    assert privileged == ["machine"]
    assert "machine" in [item["name"] for item in POD["initContainers"]]
    for name in set(CONTAINERS) - {"machine"}:
        security = CONTAINERS[name]["securityContext"]
        assert security["capabilities"]["drop"] == ["ALL"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True


def test_what_must_outlive_the_pod_is_the_nodes() -> None:
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in POD["volumes"] if "hostPath" in volume}
    mounts = {paths[mount["name"]]: mount for mount in CONTAINERS["agent"]["volumeMounts"] if mount["name"] in paths}
    assert set(mounts) == {"/run/proxypool", "/var/lib/proxypool", "/run/xtables.lock", "/lib/modules"}
    assert all(mount["mountPath"] == path for path, mount in mounts.items())
    assert mounts["/lib/modules"]["readOnly"] is True
    for name in ("install-cni", "keep-cni"):
        places = {mount["mountPath"] for mount in CONTAINERS[name]["volumeMounts"]}
        assert places == {"/etc/proxypool", "/opt/cni/bin", "/etc/cni/net.d"}


def test_every_volume_is_mounted_and_every_mount_has_one() -> None:
    volumes = {volume["name"] for volume in POD["volumes"]}
    mounted = {mount["name"] for item in CONTAINERS.values() for mount in item["volumeMounts"]}
    assert mounted == volumes


def test_the_image_holds_what_the_manifest_runs() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
    assert "COPY kubernetes/install-cni /opt/proxypool/kubernetes/\n" in dockerfile
    assert "COPY kubernetes/cni/ /opt/proxypool/kubernetes/cni/\n" in dockerfile
    assert CONTAINERS["agent"]["command"][0] == "/opt/proxypool/bin/proxypool"
    for name in ("install-cni", "keep-cni"):
        assert CONTAINERS[name]["command"][0] == "/opt/proxypool/kubernetes/install-cni"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck: apt-get install shellcheck")
    done = subprocess.run(["shellcheck", "--shell=sh", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
