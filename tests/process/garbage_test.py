"""A peer that sends garbage is dropped and counted; nothing else notices."""

import random
import socket

import pytest
from cluster import demo_cluster, ports_of, wait_for

PEERS = 20


@pytest.fixture(scope="module")
def cluster():
    with demo_cluster() as running:
        running.wait_ready()
        yield running


def engine_port(cluster) -> int:
    """Of the api-server's ports the one that is not HTTP's."""
    ports = {int(address.split(":")[1], 16) for address in ports_of({cluster.find("api-server 0").pid})}
    ports.discard(cluster.port)
    assert len(ports) == 1, ports
    return ports.pop()


def send_garbage(port: int):
    generator = random.Random(5)
    for index in range(PEERS):
        content = generator.randbytes(generator.randrange(1, 400))
        if index % 2 == 0:
            content = b"\xff" + content  # The first byte of a ZMTP greeting.
        with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
            peer.sendall(content)


@pytest.mark.parametrize("end", ["coordinator", "engine"])
def test_garbage_before_the_handshake_is_counted_and_disturbs_nobody(cluster, end):
    name = f"trireme:{end}_handshakes_failed_total"
    assert cluster.metric(name) == 0
    restarts = cluster.metric("trireme:engine_losses_total")
    family = {p.pid for p in cluster.family()}
    send_garbage(cluster.rpc_port if end == "coordinator" else engine_port(cluster))
    assert cluster.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")
    wait_for(f"{name} is {PEERS}", lambda: cluster.metric(name) == PEERS)
    assert {p.pid for p in cluster.family()} == family
    assert cluster.metric("trireme:engine_losses_total") == restarts
