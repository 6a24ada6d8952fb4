"""Two network namespaces, as two nodes, and a link between them that takes its time: 1 ms +- 1 ms each way.

With netem where the kernel has it. Else the nodes have a TUN device each and this file, run as a program, hands packets
from one to the other: each is held for as long as netem would hold it, none is lost, and none overtakes another of its
direction. It ends with the one that started it. Where there are no TUN devices either the link is as fast as it can be, and
the output says so.
"""

import collections
import contextlib
import ctypes
import fcntl
import json
import os
import random
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

FRONT, BACK = "trireme-slow-front", "trireme-slow-back"
FRONT_IP, BACK_IP = "10.213.9.1", "10.213.9.2"
DELAY_SECONDS = 0.001  # In the mean; evenly from 0 to twice as much.
ENDS = ((FRONT, "ts-front", FRONT_IP), (BACK, "ts-back", BACK_IP))
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 9000
WAITING_MAX = 10000  # Packets of a direction; what comes then is lost, as in netem.
PACKETS_AT_ONCE = 64  # Before the other direction has its turn.


def sh(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True)


def enter_namespace(namespace):
    """This thread, and what it starts from here on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns {namespace.name}")


def remove_namespaces():
    for name, _, _ in ENDS:
        sh("ip", "netns", "del", name, check=False)


def connect_directly():
    sh("ip", "link", "add", "ts-front", "netns", FRONT, "type", "veth", "peer", "name", "ts-back", "netns", BACK)


def connect_with_netem() -> bool:
    """False, and nothing connected: this kernel has none."""
    connect_directly()
    delay = f"{DELAY_SECONDS * 1000:g}ms"
    for name, device, _ in ENDS:
        words = ("tc", "qdisc", "add", "dev", device, "root", "netem", "delay", delay, delay)
        if sh("ip", "netns", "exec", name, *words, check=False).returncode != 0:
            sh("ip", "-n", FRONT, "link", "del", "ts-front")
            return False
    return True


def start_relay() -> subprocess.Popen | None:
    """None: no TUN devices here."""
    words = (sys.executable, __file__)
    relay = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if relay.stdout.readline() == "ready\n":
        return relay
    print(relay.communicate(timeout=10)[1], flush=True)
    return None


def end_relay(relay: subprocess.Popen):
    try:
        counts, failure = relay.communicate(timeout=10)
        print(f"the link between the nodes: {counts.strip()}{failure}", flush=True)
    finally:
        relay.kill()
        relay.wait()


def round_trip() -> float:
    """Seconds, from this namespace to the back one: the median time in which nobody there takes a connection."""
    times = []
    for _ in range(21):
        with socket.socket() as asking:
            begin = time.monotonic()
            assert asking.connect_ex((BACK_IP, 9)) != 0
            times.append(time.monotonic() - begin)
    return statistics.median(times)


@contextlib.contextmanager
def two_nodes():
    """In the front one. Nothing of it is left afterwards."""
    home = open("/proc/thread-self/ns/net")
    relay = None
    try:
        remove_namespaces()
        for name, _, _ in ENDS:
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        slowed_by = "netem"
        if not connect_with_netem():
            relay = start_relay()
            slowed_by = "a relay" if relay else None
        if slowed_by is None:
            connect_directly()
        for name, device, address in ENDS:
            sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
            sh("ip", "-n", name, "link", "set", device, "up")
        with open(f"/run/netns/{FRONT}") as front:
            enter_namespace(front)
        measured = round_trip()
        print(f"round trip between the nodes: {measured * 1000:.2f} ms, slowed by {slowed_by or 'nothing: no netem and no TUN'}", flush=True)
        assert measured > DELAY_SECONDS or slowed_by is None
        yield
    finally:
        enter_namespace(home)
        home.close()
        remove_namespaces()
        if relay is not None:
            end_relay(relay)


class Direction:
    """Packets from one device to the other."""

    def __init__(self, source: int, sink: int):
        self.source, self.sink = source, sink
        self.waiting = collections.deque()  # (when it is due, packet); by time.
        self.count = self.lost = 0

    def take_in(self):
        for _ in range(PACKETS_AT_ONCE):
            try:
                packet = os.read(self.source, MTU)
            except BlockingIOError:
                return
            if len(self.waiting) == WAITING_MAX:
                self.lost += 1
                continue
            due = time.monotonic() + random.uniform(0, 2 * DELAY_SECONDS)
            if self.waiting:
                due = max(due, self.waiting[-1][0])
            self.waiting.append((due, packet))

    def hand_on(self):
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            try:
                os.write(self.sink, self.waiting[0][1])
                self.count += 1
            except OSError:  # The other end is not up (yet).
                self.lost += 1
            self.waiting.popleft()


def open_device(namespace: str, device: str) -> int:
    with open(f"/run/netns/{namespace}") as there:
        enter_namespace(there)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    sh("ip", "link", "set", device, "mtu", str(MTU))
    return tun


def relay_packets():
    """Until standard input is closed: with us, or with whoever started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(PermissionError):  # A kernel's own queue would not wait for a core either.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    front, back = (open_device(name, device) for name, device, _ in ENDS)
    directions = (Direction(front, back), Direction(back, front))
    print("ready", flush=True)
    starter = sys.stdin.fileno()
    while True:
        due = min((way.waiting[0][0] for way in directions if way.waiting), default=None)
        readable, _, _ = select.select((front, back, starter), (), (), None if due is None else max(0, due - time.monotonic()))
        if starter in readable:
            break
        for way in directions:
            if way.source in readable:
                way.take_in()
            way.hand_on()
    counts = {"packets": [way.count for way in directions], "lost": [way.lost for way in directions]}
    print(json.dumps({**counts, "cpu_seconds": round(time.process_time(), 2)}), flush=True)


if __name__ == "__main__":
    relay_packets()
