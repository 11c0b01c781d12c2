"""Processes whose client matters: started with a stream of their own, and ended when nobody follows
them any longer ("on_disconnect": "kill")."""
import time

import pytest

from sandboxd import Sandbox, until
from websocket import WebSocket

pytestmark = pytest.mark.concurrent
GRACE = 2.0 # PROCESS_REFOLLOW_MS


@pytest.fixture(scope="module")
def box(_shared):
    box = Sandbox.create(_shared)
    yield box
    box.purge(expect=(204, 404))


def begin(box, *cmd, accept="text/event-stream", **fields):
    """POST with a stream as its answer: (stream, its events, the process)."""
    s = box.client.stream("POST", box.v1 + "/processes", {"cmd": list(cmd), **fields},
                          headers={"Accept": accept})
    events = s.sse() if accept == "text/event-stream" else s.ndjson()
    first = next(events)
    return s, events, (first[1] if accept == "text/event-stream" else first)["process"]


def look(box, process):
    return box.client.get(f"{box.v1}/processes/{process['id']}", expect=200).json()


def ended(box, process, seconds=20):
    return until(lambda: (p := look(box, process))["status"] != "running" and p, seconds, "its end")


def test_the_answer_is_the_process_and_then_its_output(box):
    s, events, p = begin(box, "sh", "-c", "echo out; echo err >&2; exit 3")
    with s:
        assert s.status == 201 and p["on_disconnect"] == "keep"
        rest = list(events)
    assert sorted(d["data"] for name, d in rest if name != "exit") == ["err\n", "out\n"]
    assert rest[-1][0] == "exit" and rest[-1][1]["process"]["exit_code"] == 3
    s, events, p = begin(box, "echo", "x", accept="application/x-ndjson")
    with s:
        assert [e["type"] for e in events] == ["stdout", "exit"]
    r = box.client.post(box.v1 + "/processes", {"cmd": ["/no/such"]},
                        headers={"Accept": "text/event-stream"})
    assert r.status == 400 and r.code == "invalid_request"


@pytest.mark.quick
def test_kept_ones_go_on_and_tied_ones_end_with_their_stream(box):
    kept, _, keep = begin(box, "sleep", "600")
    tied, _, kill = begin(box, "sleep", "600", on_disconnect="kill")
    assert kill["on_disconnect"] == "kill"
    kept.close()
    tied.close()
    end = ended(box, kill)
    assert end["status"] == "exited" and end["signal"] == "SIGTERM"
    assert look(box, keep)["status"] == "running"
    box.client.delete(f"{box.v1}/processes/{keep['id']}", expect=204)


def test_any_follower_holds_a_tied_one(box):
    first, _, p = begin(box, "cat", on_disconnect="kill", pty={"cols": 80, "rows": 24})
    follow = box.client.stream("GET", f"{box.v1}/processes/{p['id']}/output?follow=true")
    first.close()
    with WebSocket(box.daemon.port, f"/v1/sandboxes/{box.id}/terminal?process={p['id']}") as ws:
        follow.close()
        left = time.monotonic()
        until(lambda: time.monotonic() - left > GRACE + 1, 20) # longer than alone it would live
        ws.type("here\n")
        ws.until("here")
    assert ended(box, p)["status"] == "exited"


def test_one_that_nobody_comes_for_ends(box):
    p = box.client.post(box.v1 + "/processes", {"cmd": ["sleep", "600"], "on_disconnect": "kill"},
                        expect=201).json()
    assert ended(box, p, 30)["signal"] == "SIGTERM"


def test_a_restarted_daemon_knows(make_daemon):
    d = make_daemon()
    box = Sandbox.create(d)
    first, _, back = begin(box, "cat", on_disconnect="kill", stdin=True)
    second, _, gone = begin(box, "sleep", "600", on_disconnect="kill")
    d.restart(hard=True)
    first.close()
    second.close()
    box = Sandbox(d, box.id)
    assert look(box, back)["on_disconnect"] == "kill" and look(box, back)["status"] == "running"
    with d.client().stream("GET", f"{box.v1}/processes/{back['id']}/output?follow=true") as s:
        assert ended(box, gone, 30)["status"] == "exited"
        box.client.post(f"{box.v1}/processes/{back['id']}/stdin?eof=true", raw=b"still here",
                        expect=200)
        assert s.read() == b"still here"
    assert ended(box, back)["exit_code"] == 0
