"""A restart of the daemon, as an upgrade does it, seen by visitors who come through the real Traefik:
they wait a moment, and nobody gets an error."""
import hashlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import sandboxd
import traefik
from preview_app import service
from sandboxd import Sandbox, until
from test_traefik import app_answers, events, host_of, post, websocket
from traefik import Traefik
from visitors import Visitors


@pytest.fixture
def pair(make_daemon):
    d = make_daemon(**traefik.ports(SANDBOXD_SHUTDOWN_GRACE="60s"))
    with Traefik(d, api=False) as t:
        yield d, t


def test_visitors_of_a_restart_are_served(pair):
    d, front = pair
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    boot = app_answers(front, s)
    asleep = Sandbox.create(d, ports=[3000], services=[service(3000)])
    asleep.stop()
    with Visitors(lambda: front.get(host_of(s))) as visitors, ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            d.stop()
            # While nobody is there; whatever their kind, they wait.
            seen = visitors.asked
            late = [pool.submit(post, front, host_of(s), 8 << 20),
                    pool.submit(events, front, host_of(s), 3),
                    pool.submit(lambda: websocket(front, host_of(s)).close())]
            until(lambda: visitors.asked >= seen + 10, what="visitors come meanwhile")
            d.start()
            for kind in late:
                kind.result()
        app_answers(front, asleep)
    wrong = [r for r in visitors.replies if isinstance(r, OSError) or boot not in r.text]
    assert not wrong and len(visitors.replies) == visitors.asked


def test_an_agent_that_comes_back_late(pair, engine):
    """As on a busy machine: what listens is not known until it has."""
    d, front = pair
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    boot = app_answers(front, s)
    agent = engine.inspect(s.container)["State"]["Pid"]
    d.stop()
    os.kill(agent, signal.SIGSTOP)
    d.env["SANDBOXD_PORT_WAIT"] = "0s" # as if the sandbox had started long ago
    try:
        d.start()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(front.get, host_of(s))
            time.sleep(3) # longer than a port that does not listen is waited for
            os.kill(agent, signal.SIGCONT)
            assert boot in asked.result().expect(200).text
    finally:
        os.kill(agent, signal.SIGCONT)


def test_what_was_under_way_does_not_keep_others_out(pair):
    """One uploads slowly, one waits for a command; others come and are served all the while."""
    d, front = pair
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    app_answers(front, s)
    piece, began, go_on = os.urandom(65536), threading.Event(), threading.Event()

    def slow_body():
        yield piece
        began.set()
        go_on.wait(60 * sandboxd.SLOW)
        yield piece

    with ThreadPoolExecutor(2) as pool:
        upload = pool.submit(front.request, "POST", host_of(s), "/sum", raw=slow_body())
        command = pool.submit(
            s.exec, "touch ~/began; until [ -e ~/go_on ]; do sleep 0.05; done; echo done")
        until(lambda: began.is_set() and (s.workspace / "began").exists(), what="both are under way")
        d.expect_exit = True
        d.process.terminate()
        until(lambda: "server.stopping" in d.log(), what="it was heard")
        try:
            for _ in range(20):
                app_answers(front, s)
            assert d.process.poll() is None
        finally:
            go_on.set()
            (s.workspace / "go_on").touch()
        assert upload.result().expect(200).json()["sha256"] == hashlib.sha256(piece * 2).hexdigest()
        assert command.result()["stdout"] == "done\n"
    assert d.process.wait(30 * sandboxd.SLOW) == 0
    d.start()
    app_answers(front, s)
