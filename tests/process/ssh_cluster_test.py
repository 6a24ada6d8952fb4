"""deploy/cluster over real sshd in two network namespaces: up, a question, status, a node that cannot start, down."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from cluster import BIN, DEMO, ROOT, all_processes, wait_for

SSHD = "/usr/sbin/sshd"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FRONT, NODE = "trireme-ssh-front", "trireme-ssh-node"
ADDRESSES = {FRONT: "10.213.8.1", NODE: "10.213.8.2"}


def sh(*words, check=True, **more):
    return subprocess.run([str(w) for w in words], check=check, capture_output=True, text=True, **more)


@pytest.fixture(scope="module")
def hosts():
    """Two namespaces with an sshd each; the path of a folder with a key, and hosts files to write."""
    assert Path(SSHD).exists(), "openssh-server is not installed (./trireme test does it)"
    folder = Path(tempfile.mkdtemp(prefix="trireme-ssh-"))
    for name in ("id", "hostkey"):
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    shutil.copy(folder / "id.pub", folder / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in (FRONT, NODE):
        sh("ip", "netns", "del", name, check=False)
        sh("ip", "netns", "add", name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
    sh("ip", "link", "add", "ts-front", "netns", FRONT, "type", "veth", "peer", "name", "ts-node", "netns", NODE)
    daemons = []
    for name, device in ((FRONT, "ts-front"), (NODE, "ts-node")):
        sh("ip", "-n", name, "addr", "add", f"{ADDRESSES[name]}/24", "dev", device)
        sh("ip", "-n", name, "link", "set", device, "up")
        config = folder / f"{name}.conf"
        config.write_text(
            f"Port 2222\nListenAddress {ADDRESSES[name]}\nHostKey {folder}/hostkey\nAuthorizedKeysFile {folder}/authorized\n"
            f"PidFile {folder}/{name}.pid\nStrictModes no\nPermitRootLogin yes\n"
        )
        daemons.append(subprocess.Popen(["ip", "netns", "exec", name, SSHD, "-D", "-f", str(config)]))
    yield folder
    for daemon in daemons:
        daemon.terminate()
        daemon.wait(timeout=10)
    for name in (FRONT, NODE):
        sh("ip", "netns", "del", name, check=False)
        shutil.rmtree(Path.home() / f".trireme/{name}", ignore_errors=True)
    shutil.rmtree(folder)


def hosts_file(folder: Path) -> Path:
    path = folder / "hosts"
    lines = [f"{ADDRESSES[name]} ssh_port=2222 dir=.trireme/{name}" for name in (FRONT, NODE)]
    path.write_text("# front first\n" + "\n".join(lines) + "\n")
    return path


def cluster(folder: Path, verb: str, *arguments, check=True):
    options = f"-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i {folder}/id"
    environment = {
        **os.environ,
        "TRIREME_SSH_OPTIONS": options,
        "TRIREME_CLUSTER_KEY_FILE": str(folder / "cluster.key"),
        "TRIREME_BUILD": str(BIN.parent),
        "TRIREME_UP_SECONDS": "60",
    }
    command = [ROOT / "deploy/cluster", verb, "--hosts", hosts_file(folder), *arguments]
    return sh("ip", "netns", "exec", FRONT, *command, check=check, env=environment, timeout=120)


FLAGS = ["--data-parallel-size", 4, "--tensor-parallel-size", 1, "--served-model-name", "demo",
         "--data-parallel-rpc-port", 13346, "--port", 8000]  # fmt: skip


def ours() -> list:
    return [p for p in all_processes().values() if ".trireme/trireme-ssh-" in p.command[0]]


def test_up_answers_from_both_nodes_and_down_leaves_nothing(hosts):
    out = cluster(hosts, "up", DEMO, *FLAGS).stdout
    assert "ready: http://10.213.8.1:8000" in out

    def engines():
        text = sh("ip", "netns", "exec", FRONT, "curl", "-s", "http://127.0.0.1:8000/metrics").stdout
        return [x for x in text.split("\n") if x.startswith("trireme:engines_ready") and x.endswith(" 4")]

    wait_for("four engines", engines, 60)
    body = '{"model": "demo", "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}'
    answer = sh("ip", "netns", "exec", FRONT, "curl", "-s", "http://127.0.0.1:8000/v1/completions", "-d", body).stdout
    assert " Paris" in answer
    assert cluster(hosts, "status").stdout.count("running") == 2
    assert "ranks 2" in cluster(hosts, "logs").stdout or "rank 2" in cluster(hosts, "logs").stdout
    cluster(hosts, "down")
    wait_for("all gone", lambda: not ours(), 10)


def test_node_that_cannot_start_is_named_with_its_reason(hosts):
    result = cluster(hosts, "up", "/nonexistent/model", *FLAGS, check=False)
    assert result.returncode == 1
    assert "10.213.8." in result.stderr and "/nonexistent/model" in result.stderr
    cluster(hosts, "down", check=False)
    wait_for("all gone", lambda: not ours(), 10)
