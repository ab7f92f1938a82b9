"""The engine Ray on a real cluster of two nodes, of which a worker and then a whole node are killed."""

import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from tests.conftest import ROOT, exit_code, picture, wait_for
from tests.datasets.conftest import contents
from tests.launcher import free_port

COUNT = 32
"""Images, one in each unit."""


@pytest.fixture
def many(tmp_path):
    for i in range(COUNT):
        picture(tmp_path / "many" / "ab"[i % 2] / f"{i:02}.png", (256, 256), i)
    return tmp_path / "many"


def node_arguments():
    """Of a node of two processes. Its agents get ports, and what is not needed is not started: Ray waits 30 seconds."""
    agents = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    ports = {name: free_port() for name in agents}
    without = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    return {"num_cpus": 2, "object_store_memory": 100 * 2**20, **ports, **without}


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of two nodes. The second one can be removed."""
    pytest.importorskip("ray", reason="the engine needs the extra ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "600000")
    found = Cluster(initialize_head=True, head_node_args=node_arguments())
    found.second = found.add_node(**node_arguments())
    yield found
    found.shutdown()


def actors_of(node):
    """The processes on a node in which actors make units."""
    found = []
    for process in node.all_processes["raylet"]:
        with suppress(psutil.NoSuchProcess):  # processes may end meanwhile
            for child in psutil.Process(process.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if "MapWorker" in " ".join(child.cmdline()):
                        found.append(child)
    return found


def command(content, output, *more):
    """A process that stylizes with Ray."""
    words = ["stylize-dataset", "--content", content, "--output", output, "--engine", "ray", "--quiet", *more]
    script = "import sys; from adain.cli.main import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words), "--device", "cpu", "--precision", "fp32"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_worker_and_a_node_are_killed(many, run, cluster, tmp_path):
    run(many, tmp_path / "whole", shard_size=1, format="parquet", per_content=8)
    output, report = tmp_path / "out", tmp_path / "report.json"
    words = ["--shard-size", "1", "--format", "parquet", "--per-content", "8", "--report", report]
    process = command(many, output, *words, "--address", cluster.address)

    def made():
        return len([*output.glob("*.parquet")])

    wait_for(lambda: made() >= 2, process, 600)
    victim = wait_for(lambda: actors_of(cluster.second), process, 600)[0]
    victim.kill()
    before = made()
    wait_for(lambda: made() > before, process, 600)
    wait_for(lambda: actors_of(cluster.second), process, 600)
    cluster.remove_node(cluster.second, allow_graceful=False)
    assert made() < COUNT, "the node is killed in the middle of the work"
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert contents(output) == contents(tmp_path / "whole")
    lines = (output / ".manifest.jsonl").read_text().splitlines()
    assert len(lines) == COUNT, "each unit is recorded once"
    assert f'"results": {8 * COUNT},' in report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:port", "auto"])
def test_a_cluster_that_is_not_there(many, tmp_path, capsys, address):
    pytest.importorskip("ray", reason="the engine needs the extra ray")
    words = ["--content", many, "--output", tmp_path / "out", "--engine", "ray", "--address", address, "--quiet"]
    assert exit_code("stylize-dataset", *words) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"adain: error: Expected a Ray cluster at {address}, got none (")


@pytest.mark.slow
def test_a_run_without_a_cluster(many, run, tmp_path):
    """Ray is started on this computer, and prints no progress."""
    pytest.importorskip("ray", reason="the engine needs the extra ray")
    run(many, tmp_path / "whole", shard_size=16)
    process = command(many, tmp_path / "out", "--shard-size", "16", "--workers", "1")
    output, errors = process.communicate(timeout=600)
    # All actors of Ray Data get arguments from the object store, of which Ray itself warns.
    lines = [line for line in errors.splitlines() if "constructor arguments in the object store" not in line]
    assert (process.returncode, output, lines) == (0, "", [])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
