"""deploy/cluster over real sshd in two network namespaces: up, a question, status, losses on the way, down."""

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
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **more)
    assert not check or done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done


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


# vLLM's spellings: with "=", short, before the model and behind it.
FLAGS = ["--data-parallel-size=4", "-tp", 1, "-dpp=13346", "--port=8123", "--served-model-name", "demo"]


def ours() -> dict:
    return {p.pid: p for p in all_processes().values() if ".trireme/trireme-ssh-" in p.command[0]}


def curl(path: str, *words) -> str:
    return sh("ip", "netns", "exec", FRONT, "curl", "-s", f"http://127.0.0.1:8123{path}", *words).stdout


@pytest.fixture(scope="module")
def model(hosts):
    """A directory of links, as the hub cache holds a model."""
    snapshot = hosts / "snapshot"
    snapshot.mkdir()
    for file in DEMO.iterdir():
        (snapshot / file.name).symlink_to(file)
    return snapshot


def copied(name: str) -> Path:
    """The weights of the model that was copied to this node."""
    return next((Path.home() / f".trireme/{name}/models").glob("snapshot-*/model.safetensors"))


def test_up_answers_from_both_nodes_and_down_leaves_nothing(hosts, model):
    out = cluster(hosts, "up", *FLAGS, "--copy-model", model).stdout
    assert "ready: http://10.213.8.1:8123" in out
    assert [x for x in curl("/metrics").split("\n") if x.startswith("trireme:engines_ready") and x.endswith(" 4")]
    body = '{"model": "demo", "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}'
    assert " Paris" in curl("/v1/completions", "-d", body)
    assert copied(NODE).read_bytes() == (DEMO / "model.safetensors").read_bytes()
    assert cluster(hosts, "status").stdout.count("running") == 2
    assert "rank 2" in cluster(hosts, "logs").stdout

    before = ours().keys()
    again = cluster(hosts, "up", *FLAGS, "--copy-model", model).stdout
    assert again.count("runs already") == 2 and "copying" not in again
    other = cluster(hosts, "up", *FLAGS, "--max-num-seqs=7", "--copy-model", model, check=False)
    assert other.returncode == 1 and "other flags" in other.stderr
    assert ours().keys() == before

    cluster(hosts, "down")
    wait_for("all gone", lambda: not ours(), 10)


def test_copies_go_on_where_they_were_interrupted_and_down_goes_past_a_lost_node(hosts, model):
    whole = copied(NODE)
    stat = whole.stat()
    part = whole.with_name(f"{whole.name}.part-{stat.st_size}-{int(stat.st_mtime)}")
    part.write_bytes(whole.read_bytes()[:1_000_000])
    whole.write_bytes(b"of another model")
    out = cluster(hosts, "up", *FLAGS, "--copy-model", model).stdout
    assert "1.0MB are there" in out and out.count("copying") == 1
    assert whole.read_bytes() == (DEMO / "model.safetensors").read_bytes() and not part.exists()

    sh("ip", "-n", NODE, "link", "set", "ts-node", "down")
    lost = cluster(hosts, "down", check=False)
    sh("ip", "-n", NODE, "link", "set", "ts-node", "up")
    assert lost.returncode == 1 and ADDRESSES[NODE] in lost.stderr and ADDRESSES[FRONT] not in lost.stderr
    assert {p.command[0].split("/.trireme/")[1].split("/")[0] for p in ours().values()} == {NODE}
    cluster(hosts, "down")
    wait_for("all gone", lambda: not ours(), 10)


def test_node_that_cannot_start_is_named_with_its_reason(hosts):
    result = cluster(hosts, "up", "/nonexistent/model", *FLAGS, check=False)
    assert result.returncode == 1
    assert "10.213.8." in result.stderr and "/nonexistent/model" in result.stderr
    cluster(hosts, "down")
    wait_for("all gone", lambda: not ours(), 10)


def test_bad_flag_is_answered_before_any_node_is_touched(hosts):
    typo = cluster(hosts, "up", DEMO, *FLAGS, "--tensor-paralel-size=2", check=False)
    assert typo.returncode == 1 and "--tensor-parallel-size" in typo.stderr
    placed = cluster(hosts, "up", DEMO, *FLAGS, "-dpl", 2, check=False)
    assert placed.returncode == 1 and "--data-parallel-size-local" in placed.stderr
    assert not ours()
