"""docker-compose.yml, checked without Docker as far as that goes, and against the real services of the local stack."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml

from lakehouse.stack import trino
from lakehouse.stack.artifacts import TRINO
from lakehouse.stack.compose_env import PASSWORDS, complete, write_env
from lakehouse.stack.state import Stack

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
FILES = ROOT / "lakehouse" / "stack" / "files"
BOARD = json.loads((FILES / "grafana" / "dashboards" / "lake.json").read_text())


def images() -> list[str]:
    named = [service["image"] for service in SERVICES.values() if "build" not in service]
    built = {service["build"]["dockerfile"] for service in SERVICES.values() if "build" in service}
    return named + [
        line.split()[1] for file in built for line in (ROOT / file).read_text().splitlines() if "FROM" in line
    ]


@pytest.mark.parametrize("image", images())
def test_images_are_pinned_to_a_patch_release(image: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)*(-[\w-]+)?", image), image


def test_trino_is_the_one_of_the_local_stack() -> None:
    assert SERVICES["trino"]["image"] == f"trinodb/trino:{TRINO}"


def test_every_mounted_file_exists_and_is_read_only() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", []) if mount.startswith(".")]
    assert len(mounts) >= 4
    for mount in mounts:
        source, _, mode = mount.split(":")
        assert (ROOT / source).exists(), source
        assert mode == "ro", mount


def test_every_named_volume_is_declared_and_used() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert {m.split(":")[0] for m in mounts if not m.startswith(".")} == set(COMPOSE["volumes"])


def test_ports_are_published_on_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) >= 5
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_stays_up_has_a_health_check() -> None:
    """`catalog` and `spark` are jobs: they end."""
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"catalog", "spark"}


def test_no_password_has_a_default_and_make_compose_env_writes_each() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert required == set(PASSWORDS)
    optional = dict(re.findall(r"\$\{(\w+):-(\w*)\}", TEXT))
    assert all(name.endswith("_PORT") and value.isdigit() for name, value in optional.items())
    assert set(re.findall(r"\$\{(\w+)", TEXT)) == required | set(optional)


def test_every_variable_is_documented() -> None:
    documented = (ROOT / "docs" / "stack.md").read_text()
    missing = [name for name in sorted(set(re.findall(r"\$\{(\w+)", TEXT))) if f"`{name}`" not in documented]
    assert missing == []


def test_trinos_files_name_only_variables_that_both_stacks_set() -> None:
    files = [file for file in trino.FILES.rglob("*") if file.is_file()]
    named = {name for file in files for name in re.findall(r"\$\{ENV:(\w+)\}", file.read_text())}
    ports = {"postgres": 1, "s3": 2, "trino": 3}
    passwords = dict.fromkeys(("postgres", "s3_access_key", "s3_secret_key"), "x")
    assert named == set(SERVICES["trino"]["environment"])
    assert named == set(trino.environment(Stack(ROOT, ports, passwords)))


def test_the_passwords_are_random_private_and_kept(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("LAKE_TRINO_PORT=9999\nGRAFANA_PASSWORD=\nLAKE_DB_PASSWORD=mine\n")
    write_env(file)
    first = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (first["LAKE_TRINO_PORT"], first["LAKE_DB_PASSWORD"]) == ("9999", "mine")
    random = [first[name] for name in PASSWORDS if name != "LAKE_DB_PASSWORD"]
    assert len(set(random)) == 3
    assert all(len(word) >= 24 for word in random)
    write_env(file)
    assert dict(line.split("=", 1) for line in file.read_text().splitlines()) == first
    assert complete("") != complete("")


def test_docker_accepts_it(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no `docker compose` on this machine")
    write_env(tmp_path / ".env")
    words = [docker, "compose", "--file", ROOT / "docker-compose.yml", "--env-file", tmp_path / ".env"]
    answer = subprocess.run(
        [*words, "--profile", "jobs", "config", "--format", "json"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert set(json.loads(answer.stdout)["services"]) == set(SERVICES)


def metrics(port: int, user: str | None = None) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics", headers={"X-Trino-User": user} if user else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.integration
@pytest.mark.usefixtures("feed")
def test_the_board_shows_metrics_that_the_services_really_give(stack: Stack) -> None:
    expressions = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    wanted = {name for text in expressions for name in re.findall(r"(?:trino|SeaweedFS)_\w+", text)}
    assert len(wanted) >= 12
    status, of_trino = metrics(stack.ports["trino"], "prometheus")
    assert status == 200
    given = of_trino + metrics(stack.ports["s3_metrics"])[1]
    assert sorted(wanted - set(re.findall(r"^(\w+)", given, re.MULTILINE))) == []


@pytest.mark.integration
def test_metrics_are_not_for_analysts(stack: Stack) -> None:
    assert metrics(stack.ports["trino"], "analyst")[0] == 403


def test_the_board_draws_from_the_provisioned_source() -> None:
    source = yaml.safe_load((FILES / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {source["uid"]}
    provider = yaml.safe_load((FILES / "grafana/provisioning/dashboards/lake.yaml").read_text())["providers"][0]
    assert any(provider["options"]["path"] in mount for mount in SERVICES["grafana"]["volumes"])


def test_prometheus_asks_services_that_are_there() -> None:
    config = yaml.safe_load((FILES / "prometheus" / "prometheus.yml").read_text())
    asked = {target for job in config["scrape_configs"] for s in job["static_configs"] for target in s["targets"]}
    assert asked == {"127.0.0.1:9090", "s3:9327", "trino:8080"}
    assert "-metricsPort=9327" in SERVICES["s3"]["command"]
    assert SERVICES["trino"]["environment"]["TRINO_PORT"] == 8080
