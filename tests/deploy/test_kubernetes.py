"""deploy/kubernetes, as kustomize makes it: what belongs together fits, and fits what the gateway does."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.shipped import ASKED, DEPLOY, NEEDED, SETTLING_SECONDS, last, read
from tests.docs.queries import named, unknown
from tests.harness import Running

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl, which has kustomize")
Made = dict[str, dict[str, Any]]
_UNITS = {"Gi": 2**30, "Mi": 2**20}


@pytest.fixture(scope="module")
def made() -> Made:
    """What the example makes."""
    return kustomized(DEPLOY / "kubernetes/example")


def kustomized(directory: Path) -> Made:
    """What kustomize makes of a directory, by kind and name."""
    command = ["kubectl", "kustomize", str(directory)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in yaml.safe_load_all(text)}


@pytest.fixture
def pod(made: Made) -> dict[str, Any]:
    """A pod's template."""
    found: dict[str, Any] = made["StatefulSet/gateway"]["spec"]["template"]
    return found


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The gateway in it, alone."""
    (found,) = pod["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_everything_is_made(made: Made) -> None:
    """All kinds, in one namespace, with the image's own name replaced."""
    assert {each.partition("/")[0] for each in made} >= {
        *("StatefulSet", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"),
        *("ServiceMonitor", "PrometheusRule"),
    }
    assert {each["metadata"]["namespace"] for each in made.values()} == {"gateway"}
    image = made["StatefulSet/gateway"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("registry.example.com/credit-gateway:")


def test_selectors_select(made: Made, pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Services, budget, network and the set itself mean these pods; an empty selector would mean every pod there is."""
    labels = pod["metadata"]["labels"].items()
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    selectors = [
        made["StatefulSet/gateway"]["spec"]["selector"]["matchLabels"],
        made["PodDisruptionBudget/gateway"]["spec"]["selector"]["matchLabels"],
        made["NetworkPolicy/gateway"]["spec"]["podSelector"]["matchLabels"],
        *(each["spec"]["selector"] for name, each in made.items() if name.startswith("Service/")),
    ]
    assert len(selectors) == 5
    assert all(selector and selector.items() <= labels for selector in selectors)
    services = {name: each for name, each in made.items() if name.startswith("Service/")}
    assert {port["targetPort"] for each in services.values() for port in each["spec"]["ports"]} == set(ports)
    assert f"Service/{made['StatefulSet/gateway']['spec']['serviceName']}" in services
    monitor = made["ServiceMonitor/gateway"]["spec"]
    watched = [
        port["name"]
        for each in services.values()
        if monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
        for port in each["spec"]["ports"]
    ]
    assert [each["port"] for each in monitor["endpoints"]] == [name for name in watched if name == "ops"]
    assert made["HorizontalPodAutoscaler/gateway"]["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"


def test_ports_are_those_of_the_config(made: Made, container: dict[str, Any]) -> None:
    """The container's, and what the network lets in."""
    config = read("gateway.yaml")
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {name: config[name]["port"] for name in ("customers", "ops")}
    policy = made["NetworkPolicy/gateway"]["spec"]
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == list(ports.values())
    assert all(rule["from"] for rule in policy["ingress"]) and all(rule["to"] for rule in policy["egress"])
    internet = policy["egress"][-1]["to"][0]["ipBlock"]
    assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} < set(internet["except"])


async def test_probes_ask_what_a_gateway_answers(gw: Running, container: dict[str, Any]) -> None:
    """Each path of a probe, asked of one that serves: 200. Whether it is alive does not depend on Redis."""
    probes = {name: each["httpGet"] for name, each in container.items() if name.endswith("Probe")}
    assert set(probes) == {"startupProbe", "livenessProbe", "readinessProbe"}
    for probe in probes.values():
        async with gw.http.get(gw.ops_url + probe["path"]) as answer:
            assert answer.status == 200, probe
        assert probe["port"] == "ops"
    assert probes["livenessProbe"]["path"] != probes["readinessProbe"]["path"]


def test_a_pod_ends_in_good_order(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """preStop outlasts the time in which endpoints drain; the whole outlasts preStop, calls and their settling."""
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    ready = container["readinessProbe"]
    assert command == "sleep"
    assert int(seconds) > ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"]
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    limits = read("gateway.yaml")["limits"]
    assert limits["shutdown_seconds_max"] >= limits["drain_seconds"]
    assert grace >= int(seconds) + limits["shutdown_seconds_max"] + SETTLING_SECONDS


def test_a_pod_has_no_rights(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """The image's own user, no root that can be written, no capability, no token of the cluster."""
    user, group = map(int, last("USER").rest.split(":"))
    whole = pod["spec"]["securityContext"]
    assert (whole["runAsUser"], whole["runAsGroup"], whole["fsGroup"]) == (user, group, group)
    assert whole["runAsNonRoot"] is True
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_a_pod_is_told_what_the_config_asks_for(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Every secret is a file of the mounted ones; the comment of the example names them all."""
    told = {each["name"]: each["value"] for each in container["env"]}
    assert set(NEEDED) <= set(told) <= ASKED
    (mounted,) = (each["mountPath"] for each in container["volumeMounts"] if each["name"] == "secrets")
    files = {told[name].removeprefix(f"file:{mounted}/") for name in NEEDED}
    example = (DEPLOY / "kubernetes/example/kustomization.yaml").read_text()
    listed = re.search(r"a file for each: (.*)\.\n", example)
    assert listed is not None
    assert files == set(listed[1].split(", "))
    assert int(told["GATEWAY_WORKERS"]) == int(container["resources"]["requests"]["cpu"])
    (secret,) = (each["secret"] for each in pod["spec"]["volumes"] if each["name"] == "secrets")
    assert secret["secretName"] == "gateway"


def test_the_spool_outlives_the_pod(made: Made, container: dict[str, Any]) -> None:
    """It is a claim of the pod's own, kept whoever goes, larger than the spool may be; nothing else can be written."""
    (claim,) = made["StatefulSet/gateway"]["spec"]["volumeClaimTemplates"]
    size = claim["spec"]["resources"]["requests"]["storage"]
    project = yaml.safe_load((DEPLOY.parent / "gateway.yaml").read_text())
    assert int(size[:-2]) * _UNITS[size[-2:]] > 2 * project["limits"]["spool_bytes_max"]
    written = {each["name"]: each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
    assert written == {claim["metadata"]["name"]: last("VOLUME").rest}
    assert set(made["StatefulSet/gateway"]["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


def test_enough_pods_are_left(made: Made) -> None:
    """Whatever is scaled, evicted or rolled out, one goes at a time and others serve."""
    scaling = made["HorizontalPodAutoscaler/gateway"]["spec"]
    assert scaling["minReplicas"] - made["PodDisruptionBudget/gateway"]["spec"]["maxUnavailable"] >= 2
    assert made["StatefulSet/gateway"]["spec"]["replicas"] == scaling["minReplicas"]
    assert scaling["behavior"]["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]


def test_it_scales_by_how_full_it_is(made: Made, container: dict[str, Any]) -> None:
    """By CPU, and by what the Prometheus adapter is told to answer for a pod: of metrics that a gateway has."""
    asked = made["HorizontalPodAutoscaler/gateway"]["spec"]["metrics"]
    assert [each["type"] for each in asked] == ["Resource", "Pods", "Pods"]
    rules = read("kubernetes/saturation/adapter.yaml")["rules"]["custom"]
    told = {rule["name"]["as"]: rule["metricsQuery"] for rule in rules}
    assert [each["pods"]["metric"]["name"] for each in asked[1:]] == list(told)
    for query in told.values():
        plain = query.replace("<<.LabelMatchers>>", 'instance="a"').replace("<<.GroupBy>>", "instance")
        assert "<<" not in plain
        assert list(named(plain)) and unknown(plain) == []
    project = yaml.safe_load((DEPLOY.parent / "gateway.yaml").read_text())
    workers = int(container["resources"]["requests"]["cpu"])
    connections = int(asked[2]["pods"]["target"]["averageValue"])
    assert connections <= workers * project["limits"]["connections_max"] * 0.7


def test_the_dashboard_is_collected(made: Made) -> None:
    """The file that Grafana reads, in a ConfigMap with its sidecar's label."""
    dashboard = made["ConfigMap/gateway-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"]["gateway.json"] == (DEPLOY / "grafana/gateway.json").read_text()


def test_prices_of_ones_own_are_mounted_over_the_images(tmp_path: Path) -> None:
    """The block of docs/operating/deploy.md, with a file of prices beside it: what a pod sees there is that file."""
    page = (DEPLOY.parent / "docs/operating/deploy.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shutil.copytree(DEPLOY / "kubernetes/base", tmp_path / "base")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kustomization.yaml").write_text(f"resources: [../base]\n{block}")
    shutil.copy(DEPLOY.parent / "config/prices.yaml", tmp_path / "mine")
    found = kustomized(tmp_path / "mine")
    (prices,) = (each for each in found.values() if each["kind"] == "ConfigMap")
    template = found["StatefulSet/gateway"]["spec"]["template"]["spec"]
    assert {"name": "prices", "configMap": {"name": prices["metadata"]["name"]}} in template["volumes"]
    mounted = {each["mountPath"]: each.get("subPath") for each in template["containers"][0]["volumeMounts"]}
    assert mounted["/etc/gateway/config/prices.yaml"] == "prices.yaml"
    assert set(prices["data"]) == {"prices.yaml"}
