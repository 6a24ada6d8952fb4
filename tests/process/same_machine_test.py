"""Clusters beside one another on one machine: each takes a control port of its own, unless it was told which."""

import os
import re
import signal

from cluster import DEMO, Cluster, all_processes, demo_cluster, listening, ports_of, wait_for


def beside(*flags) -> Cluster:
    return demo_cluster("--data-parallel-size", "2", *flags, takes_any_rpc_port=True)


def control_port(cluster) -> int:
    """As the process tree tells it."""
    tree = wait_for("the tree is shown", lambda: re.search(r"coordinator +\d+  control 127\.0\.0\.1:(\d+)", cluster.log_text()))
    return int(tree.group(1))


def says_paris(cluster) -> bool:
    return cluster.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")


def test_two_clusters_that_say_nothing_of_control_ports_serve_side_by_side():
    with beside() as one, beside() as other:
        for cluster in (one, other):
            cluster.wait_ready()
            cluster.wait_engines(2)
            assert says_paris(cluster)
        assert control_port(one) != control_port(other)
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(timeout=40) == 0
        assert says_paris(other) and other.metric("trireme:engine_losses_total") == 0


def test_a_restarted_coordinator_has_the_port_that_was_taken():
    with beside() as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        port = control_port(cluster)
        for _ in range(2):
            victim = cluster.find("coordinator").pid
            epoch = cluster.metric("trireme:view_epoch")
            os.kill(victim, signal.SIGKILL)
            wait_for("another one", lambda: (p := cluster.find("coordinator")) and p.pid != victim)
            wait_for("all have joined it", lambda: cluster.metric("trireme:view_epoch") > epoch)
            cluster.wait_engines(2)
            assert says_paris(cluster) and cluster.metric("trireme:engine_losses_total") == 0
            coordinator = cluster.find("coordinator")
            assert coordinator.argument("--data-parallel-rpc-port") == str(port)
            assert any(address.endswith(f":{port:04X}") for address in ports_of({coordinator.pid}))


def test_the_port_is_free_when_the_outermost_process_was_killed():
    with beside() as cluster:
        cluster.wait_ready()
        family = {p.pid for p in cluster.family()}
        port = control_port(cluster)
        cluster.process.kill()
        cluster.process.wait(timeout=10)
        wait_for("all have gone", lambda: not (family & set(all_processes())), 1.0)
        assert not any(address.endswith(f":{port:04X}") for address in listening())


def test_a_second_cluster_at_the_same_http_port_is_told_which_flag():
    with beside() as one:
        one.wait_ready()
        again = Cluster([*one.arguments], takes_any_rpc_port=True)
        again.port = one.port
        with again as second:
            assert second.process.wait(timeout=20) == 1
            assert f"--port {one.port} on 127.0.0.1 is taken by another process" in second.log_text()
        assert says_paris(one)


def test_a_control_port_that_other_nodes_could_not_find_is_refused():
    flags = ["--data-parallel-size", "2", "--data-parallel-size-local", "1", "--data-parallel-rpc-port", "0"]
    with Cluster([str(DEMO), *flags]) as cluster:
        assert cluster.process.wait(timeout=20) == 1
        assert "--data-parallel-rpc-port 0" in cluster.log_text()
