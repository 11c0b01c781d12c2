"""Processes that outlive their clients, the connection and the daemon."""
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxd import SLOW, Sandbox, new_id, together, until

pytestmark = pytest.mark.concurrent

KEEP = 1024 * 1024 # of output, of one process


@pytest.fixture(scope="module")
def box(_shared):
    box = Sandbox.create(_shared)
    yield box
    box.purge(expect=(204, 404))


class Process:
    """One process by its id; each method is one request."""

    def __init__(self, box, *cmd, expect=201, **fields):
        self.box, self.client = box, box.client
        line = cmd[0] if len(cmd) == 1 else list(cmd)
        reply = self.client.post(box.v1 + "/processes", {"cmd": line, **fields}, expect=expect)
        self.created = reply.json()
        if reply.status == 201:
            self.id = self.created["id"]
            self.url = f"{box.v1}/processes/{self.id}"

    def get(self, expect=200):
        return self.client.get(self.url, expect=expect).json()

    def ended(self, seconds=10):
        return until(lambda: (p := self.get())["status"] != "running" and p, seconds, "its end")

    def output(self, offset=0):
        return self.client.get(f"{self.url}/output?offset={offset}", expect=200).body

    def says(self, text, seconds=10):
        until(lambda: text in self.output().decode(), seconds, f"output {text!r}")

    def signal(self, signal=None, expect=202, **fields):
        body = {"signal": signal, **fields} if signal is not None else fields
        return self.client.post(self.url + "/signal", body, expect=expect)

    def feed(self, data, eof=False, expect=200):
        return self.client.post(f"{self.url}/stdin" + ("?eof=true" if eof else ""), raw=data,
                                expect=expect)

    def resize(self, cols, rows, expect=204):
        return self.client.post(self.url + "/resize", {"cols": cols, "rows": rows}, expect=expect)

    def remove(self, expect=204):
        return self.client.delete(self.url, expect=expect)

    def follow(self, offset=None, last=None, accept="text/event-stream"):
        headers = {"Accept": accept}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        query = "follow=true" + (f"&offset={offset}" if offset is not None else "")
        return self.client.stream("GET", f"{self.url}/output?{query}", headers=headers)


def raw_events(stream):
    """(id, event, data) of an SSE stream, as they came."""
    import json
    event = {}
    for line in stream.lines():
        if not line:
            if "data" in event:
                yield int(event.get("id", -1)), event["event"], json.loads(event["data"])
            event = {}
        elif not line.startswith(":"):
            name, value = line.split(": ", 1)
            event[name] = value


def data_of(events):
    return "".join(e["data"] for _, name, e in events if name in ("stdout", "stderr"))


# --- start and look ---


@pytest.mark.quick
def test_start_get_list_and_end(box):
    p = Process(box, "sh", "-c", "echo out; echo err >&2; echo $X; pwd; exit 3",
                env={"X": "here"}, cwd="/tmp")
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", p.id)
    assert p.created["pid"] > 1 and p.created["cwd"] == "/tmp"
    end = p.ended()
    assert end["status"] == "exited" and end["exit_code"] == 3 and end["signal"] is None
    assert end["cmd"] == ["sh", "-c", "echo out; echo err >&2; echo $X; pwd; exit 3"]
    assert not end["pty"] and not end["timed_out"] and end["service"] is None
    assert end["started_at"] <= end["ended_at"] and end["bytes"] == 18
    assert sorted(p.output().decode().split()) == ["/tmp", "err", "here", "out"]
    assert p.output(18) == b"" and p.output(10 ** 9) == b""
    later = Process(box, "true")
    ids = [x["id"] for x in box.client.get(box.v1 + "/processes", expect=200).json()["processes"]]
    assert ids.index(later.id) < ids.index(p.id), "newest first"


@pytest.mark.parametrize("fields, status, word", [
    ({"cmd": []}, 400, "cmd"), ({"cmd": ""}, 400, "cmd"), ({"cmd": [""]}, 400, "cmd"),
    ({"cmd": [1]}, 400, "cmd"), ({}, 400, "cmd"),
    ({"cmd": ["/no/such"]}, 400, "not found"),
    ({"cmd": ["/etc/passwd"]}, 400, "permission denied"),
    ({"cmd": ["true"], "cwd": "/nowhere"}, 400, "cwd"),
    ({"cmd": ["true"], "cwd": "gone"}, 400, "cwd: no such directory"),
    ({"cmd": ["true"], "env": {"1A": "x"}}, 400, "env"),
    ({"cmd": ["true"], "env": {"SANDBOXED_X": "x"}}, 400, "reserved"),
    ({"cmd": ["true"], "bogus": 1}, 400, "bogus"),
    ({"cmd": ["true"], "pty": {"cols": 0, "rows": 1}}, 400, "cols"),
    ({"cmd": ["true"], "timeout_ms": 0}, 400, "timeout_ms"),
])
def test_what_cannot_be_started_leaves_no_record(box, fields, status, word):
    before = len(box.client.get(box.v1 + "/processes").json()["processes"])
    r = box.client.post(box.v1 + "/processes", fields, expect=status)
    assert word in r.text
    assert len(box.client.get(box.v1 + "/processes").json()["processes"]) == before


def test_others_and_unknown_ones_are_404(make_daemon):
    d = make_daemon(SANDBOXD_API_AUTH_DISABLED=None, SANDBOXD_API_TOKENS="a:secret-aaaa,b:secret-bbbb")
    a, b = d.client("secret-aaaa"), d.client("secret-bbbb")
    box, other = Sandbox.create(d, a), Sandbox.create(d, a)
    p = Process(box, "sleep", "600", stdin=True, pty={"cols": 80, "rows": 24})
    calls = [("GET", "", None), ("GET", "/output", None), ("POST", "/signal", {}),
             ("POST", "/stdin", None), ("POST", "/resize", {"cols": 1, "rows": 1}),
             ("DELETE", "", None)]
    missing = f"{box.v1}/processes/{new_id()}"
    elsewhere = f"{other.v1}/processes/{p.id}"
    for client, url in ((b, p.url), (a, missing), (a, elsewhere), (a, box.v1 + "/processes/x")):
        for method, tail, body in calls:
            assert client.request(method, url + tail, json=body).status == 404, (url, tail)
    b.get(box.v1 + "/processes", expect=404)
    b.post(box.v1 + "/processes", {"cmd": "true"}, expect=404)
    assert p.get()["status"] == "running"


# --- act ---


@pytest.mark.quick
def test_signals_reach_the_group_or_the_tree(box):
    trap = ("trap 'echo group' USR1; setsid sleep 601 & echo $!; echo ready; "
            "while :; do sleep 0.05; done")
    p = Process(box, "bash", "-c", trap)
    p.says("ready")
    outside = int(p.output().split()[0])
    p.signal("SIGUSR1")
    p.says("group")
    for wrong in ("SIGNO", 0, 65, "", "15", {}, True):
        p.signal(wrong, expect=400)
    p.signal(9)
    end = p.ended()
    assert end["signal"] == "SIGKILL" and end["exit_code"] == 137
    p.signal("TERM", expect=409)
    assert box.exec(f"kill -0 {outside}")["exit_code"] != 0, "what it left behind is ended with it"

    p = Process(box, "bash", "-c", "trap : USR2; setsid bash -c 'trap \"echo far; exit\" USR2; echo up; "
                     "while :; do sleep 0.05; done' & wait; sleep 606")
    p.says("up")
    p.signal("USR2", tree=True)
    p.says("far")
    p.remove()

    p = Process(box, "bash", "-c", "trap '' TERM HUP; setsid bash -c 'trap \"\" TERM; sleep 602; :' & "
                     "echo up; wait; sleep 603")
    p.says("up")
    p.signal("KILL", tree=True)
    assert p.ended()["status"] == "exited"
    assert box.exec("pgrep", "-f", "sleep 60[123]")["exit_code"] == 1


def test_default_signal_is_term(box):
    p = Process(box, "bash", "-c", "trap 'echo got; exit 7' TERM; echo up; while :; do sleep 0.05; done")
    p.says("up")
    p.signal()
    assert p.ended()["exit_code"] == 7


@pytest.mark.quick
def test_stdin_later_and_its_end(box):
    p = Process(box, "cat", stdin=True)
    assert p.feed(b"one\n").json() == {"taken": 4}
    p.says("one")
    assert p.feed(b"").json() == {"taken": 0}
    big = bytes(range(256)) * 2048
    assert p.feed(big, eof=True).json() == {"taken": len(big)}
    assert p.ended()["exit_code"] == 0
    assert p.output() == b"one\n" + big
    p.feed(b"x", expect=409)
    closed = Process(box, "sleep", "600")
    assert "stdin is closed" in closed.feed(b"x", expect=409).text
    closed.feed(b"", eof=True) # closing it twice is fine
    closed.remove()
    p = Process(box, "bash", "-c", "read a; echo got $a; sleep 600", stdin=True)
    p.feed(b"x\n", eof=True)
    p.says("got x")
    assert "stdin is closed" in p.feed(b"x", expect=409).text
    p.remove()


def test_feeders_take_turns(box):
    p = Process(box, "cat", stdin=True)
    lines = [f"{i:03d}\n".encode() * 5000 for i in range(6)]
    together(*[lambda d=d: p.feed(d) for d in lines])
    p.feed(b"", eof=True)
    p.ended()
    out = p.output()
    assert sorted(out[i:i + 20000] for i in range(0, len(out), 20000)) == lines


def test_terminals(box):
    p = Process(box, "bash", "--norc", pty={"cols": 91, "rows": 33})
    p.feed(b"PS1='re''ady> '; stty size; tty >/dev/null && echo is-a-$((1+0))tty; echo $TERM\n")
    p.says("33 91")
    p.says("is-a-1tty")
    p.says("xterm-256color")
    p.says("ready> ") # on its way to a prompt readline may set the old size again
    p.resize(120, 40)
    p.feed(b"stty size\n")
    p.says("40 120")
    p.feed(b"sleep 604\n")
    until(lambda: box.exec("pgrep", "-f", "^sleep 604")["exit_code"] == 0, 10)
    p.feed(b"\x03")
    until(lambda: box.exec("pgrep", "-f", "^sleep 604")["exit_code"] == 1, 10, "Ctrl-C ends it")
    p.feed(b"echo af''ter\n")
    p.says("after")
    # Before the prompt it would not be the shell's: what the terminal keeps of it is a NUL.
    until(lambda: "ready> " in p.output().decode().rpartition("after\r\n")[2], what="a prompt")
    p.feed(b"", eof=True) # types the end of file: the shell leaves
    assert p.ended()["exit_code"] == 0 and p.get()["pty"]
    plain = Process(box, "sleep", "600")
    plain.resize(1, 1, expect=409)
    for size in ((0, 1), (1, 0), (1001, 1)):
        plain.resize(*size, expect=400)
    plain.remove()


def test_a_timeout_ends_it(box):
    p = Process(box, "sleep", "600", timeout_ms=200)
    end = p.ended()
    assert end["timed_out"] and end["status"] == "exited"


@pytest.mark.quick
def test_delete_ends_and_forgets(box):
    p = Process(box, "bash", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done")
    p.says("on")
    with p.follow() as s:
        events = raw_events(s)
        assert next(events)[1] == "stdout"
        p.remove()
        assert [e[1] for e in events] == ["exit"], "who follows is told, and let go"
    p.get(expect=404)
    p.remove(expect=404)
    until(lambda: box.exec("kill", "-0", str(p.created["pid"]))["exit_code"] != 0, 10, "ended")


# --- output ---


@pytest.mark.quick
def test_follow_from_any_offset(box):
    p = Process(box, "bash", "-c", "read; echo one; read; echo two >&2; read; echo three", stdin=True)
    with p.follow() as s:
        events = raw_events(s)
        for word, stream in (("one", "stdout"), ("two", "stderr"), ("three", "stdout")):
            p.feed(b"\n")
            got = next(events)
            assert got[1] == stream and got[2]["data"] == word + "\n"
        name, end = next(events)[1:]
        assert name == "exit" and end["process"]["exit_code"] == 0
        assert next(events, None) is None
    assert p.output() == b"one\ntwo\nthree\n" and p.output(4) == b"two\nthree\n"
    assert p.output(6) == b"o\nthree\n"
    with p.follow(offset=6) as s:
        assert data_of(raw_events(s)) == "o\nthree\n"
    with p.follow(accept="application/x-ndjson") as s:
        lines = list(s.ndjson())
    assert [x["type"] for x in lines] == ["stdout", "stderr", "stdout", "exit"]
    assert [x["offset"] for x in lines[:3]] == [0, 4, 8]
    for wrong in ("-1", "x", "1.5", "99999999999999999999"):
        p.client.get(f"{p.url}/output?offset={wrong}", expect=400)


@pytest.mark.quick
def test_last_event_id_goes_on_where_the_stream_was_cut(box):
    p = Process(box, "bash", "-c",
                r"printf 'a\xe2\x82'; read; printf '\xacb'; read; printf c >&2; read; printf d; read",
                stdin=True)
    with p.follow() as s:
        whole, ids = "", []
        events = raw_events(s)
        for _ in range(4):
            e = next(events)
            whole += e[2]["data"]
            ids.append((e[0], whole))
            p.feed(b"\n")
        assert whole == "a\u20acbcd"
        assert next(events)[1] == "exit"
    for last, before in ids:
        with p.follow(last=last) as s:
            assert before + data_of(raw_events(s)) == whole, f"after event {last}"
    # A browser sends both: what it was first asked for, and where it is now.
    with p.follow(offset=0, last=ids[-1][0]) as s:
        assert [e[1] for e in raw_events(s)] == ["exit"]
    p.client.get(p.url + "/output", headers={"Last-Event-ID": "x"}, expect=400)


def test_a_character_that_another_stream_cuts_is_not_lost(box):
    p = Process(box, "bash", "-c",
                r"printf '\xe2'; read; printf x >&2; read; printf '\x82\xac'; read", stdin=True)
    with p.follow() as s:
        events = raw_events(s)
        out, err, at = b"", "", []
        import base64
        for _ in range(3):
            p.feed(b"\n")
        for i, name, e in events:
            if name == "exit":
                break
            got = base64.b64decode(e["base64"]) if "base64" in e else e["data"].encode()
            at.append((e["offset"], len(got), i))
            if name == "stdout":
                out += got
            else:
                err += got.decode()
    assert out == b"\xe2\x82\xac" and err == "x"
    assert all(offset + size == event_id for offset, size, event_id in at), at


@pytest.mark.quick
def test_a_flood_is_a_ring_with_true_counts(box):
    size = 3 * KEEP + 12345
    p = Process(box, "bash", "-c", f"head -c {size} /dev/zero | tr '\\0' x; echo -n end")
    end = p.ended(30)
    assert end["bytes"] == size + 3
    kept = p.output()
    assert KEEP * 0.8 < len(kept) <= KEEP and kept.endswith(b"xend") and kept[:1] == b"x"
    assert p.output(size) == b"end"
    with p.follow() as s:
        events = list(raw_events(s))
    assert events[0][1] == "truncated"
    assert events[0][2]["lost_bytes"] == size + 3 - len(kept)
    assert len(data_of(events)) == len(kept) and events[1][2]["offset"] == size + 3 - len(kept)
    r = p.client.get(p.url + "/output", expect=200)
    assert int(r.headers["X-Lost-Bytes"]) == size + 3 - len(kept)
    assert "X-Lost-Bytes" not in p.client.get(f"{p.url}/output?offset={size}").headers


def test_nothing_is_lost_to_a_slow_follower_in_the_ring(box):
    p = Process(box, "bash", "-c", "for i in $(seq 1 20000); do echo line $i; done")
    with p.follow() as s:
        text = data_of(raw_events(s))
    assert text == "".join(f"line {i}\n" for i in range(1, 20001))


def test_a_process_waits_for_a_reader_that_holds(box):
    """Far more than is kept, and a reader that comes late and pauses: all of it arrives."""
    size = 40 * KEEP
    p = Process(box, "sh", "-c", f"head -c {size} /dev/zero; echo end", hold=True)
    got = b""
    with p.client.stream("GET", f"{p.url}/output?follow=true&hold=true") as s:
        assert s.status == 200 and "X-Lost-Bytes" not in s.headers
        got = s.read(65536)
        until(lambda: p.get()["bytes"] > len(got), what="it writes on")
        assert p.get()["status"] == "running", "it waits"
        got += s.read()
    assert got == bytes(size) + b"end\n" and p.ended()["exit_code"] == 0


def test_a_reader_that_never_comes_is_not_waited_for(make_daemon):
    box = Sandbox.create(make_daemon(SANDBOXD_REAP_INTERVAL="1h"))  # it is no reaper's business
    p = Process(box, "sh", "-c", f"head -c {4 * KEEP} /dev/zero", hold=True)
    assert p.ended(30)["bytes"] == 4 * KEEP
    box.purge()


def test_many_small_writes_are_read_quickly(box):
    """Each write in a record of its own: reading them all is no matter of squares."""
    p = Process(box, "python3", "-uc",
                "import sys,time\nfor i in range(300):\n print(i%10, end='', flush=True); "
                "print('e', end='', file=sys.stderr, flush=True)")
    end = p.ended(30)
    assert end["bytes"] == 600
    with p.follow() as s:
        events = list(raw_events(s))
    assert len(data_of(events)) == 600


# --- afterwards ---


def check_output(p, lines):
    assert p.output() == "".join(f"{i}\n" for i in range(lines)).encode()


@pytest.mark.quick
def test_status_and_output_stay_after_end_stop_and_daemon(make_daemon):
    d = make_daemon()
    box = Sandbox.create(d)
    ended = Process(box, "bash", "-c", "for i in $(seq 0 999); do echo $i; done; exit 5")
    cut = Process(box, "bash", "-c", "echo on; sleep 600")
    ended.ended()
    cut.says("on")
    check_output(ended, 1000)
    box.stop()
    cut.ended()

    def all_true():
        assert ended.get()["exit_code"] == 5 and ended.get()["status"] == "exited"
        check_output(ended, 1000)
        assert cut.output() == b"on\n" and cut.get()["status"] in ("exited", "lost")
        with ended.follow() as s:
            events = list(raw_events(s))
            assert events[-1][1] == "exit" and len(events) > 1
    all_true()
    d.restart(hard=True)
    all_true()
    box.start()
    all_true()
    assert box.status == "running"
    ended.remove()
    cut.remove()
    d.restart()
    ended.get(expect=404)
    files = [str(f) for f in __import__("pathlib").Path(d.data_dir, "processes").rglob("*.out")]
    assert files == []


@pytest.mark.quick
@pytest.mark.parametrize("hard", [True, False], ids=["kill9", "term"])
def test_a_process_goes_on_while_the_daemon_is_away(make_daemon, hard):
    d = make_daemon()
    box = Sandbox.create(d)
    script = "for i in $(seq 0 99999); do echo $i; echo $i > ~/at; read -t 0.01 x && break; done; exit 4"
    p = Process(box, "bash", "-c", script, stdin=True)
    q = Process(box, "bash", "-c", "echo first; sleep 1; echo last; touch ~/last; exit 6")
    p.says("20")
    q.says("first")
    d.kill9() if hard else d.stop()

    def at(): # the file may be empty for a moment
        return int((box.workspace / "at").read_text() or 0)

    away = until(at)
    until(lambda: at() > away + 50 and (box.workspace / "last").exists(), what="both work on")
    d.start()
    end = q.ended()
    assert (end["status"], end["exit_code"]) == ("exited", 6) and q.output() == b"first\nlast\n"
    now = until(lambda: (x := p.get())["pid"] and x, 10, "taken up")
    assert now["status"] == "running" and now["pid"] == p.created["pid"]
    p.feed(b"stop\n")
    assert p.ended()["exit_code"] == 4
    lines = p.output().decode().split("\n")[:-1]
    assert lines == [str(i) for i in range(len(lines))] and len(lines) > away + 50
    assert p.get()["bytes"] == len(p.output())


def test_a_frozen_process_is_taken_up_at_the_thaw(make_daemon):
    d = make_daemon()
    box = Sandbox.create(d)
    p = Process(box, "bash", "-c", "while read x; do echo got $x; done", stdin=True)
    p.feed(b"one\n")
    p.says("got one")
    box.client.post(box.v1 + "/pause", expect=200)
    d.restart(hard=True)
    assert p.get()["status"] == "running" and box.status == "paused"
    p.feed(b"two\n") # thaws
    p.says("got two")
    assert p.output() == b"got one\ngot two\n" and box.status == "running"
    box.client.post(box.v1 + "/pause", expect=200)
    p.signal("KILL")
    assert p.ended()["signal"] == "SIGKILL"


def test_the_end_of_a_sandbox_takes_its_processes_along(make_daemon):
    d = make_daemon()
    box = Sandbox.create(d)
    ended = Process(box, "echo", "x")
    ended.ended()
    running = Process(box, "bash", "-c", "echo y; sleep 600")
    running.says("y")
    with running.follow() as s:
        events = raw_events(s)
        next(events)
        box.purge()
        assert [e[1] for e in events][-1:] == ["exit"]
    running.get(expect=404)
    import pathlib
    until(lambda: not list(pathlib.Path(d.data_dir, "processes").glob("*")), 5, "no files left")
    again = Sandbox.create(d, id=box.id)
    assert again.client.get(again.v1 + "/processes").json()["processes"] == []


def test_a_killed_supervisor_is_told(box):
    p = Process(box, "bash", "-c", "echo $PPID; sleep 600")
    p.says("\n")
    box.exec("kill", "-9", p.output().decode().strip())
    assert p.ended()["status"] == "lost" and p.get()["exit_code"] is None


# --- many ---


def test_sixty_four_at_once_and_no_more(make_sandbox):
    box = make_sandbox()
    with ThreadPoolExecutor(16) as pool:
        ps = list(pool.map(lambda _: Process(box, "sleep", "600"), range(64)))
    r = box.client.post(box.v1 + "/processes", {"cmd": ["true"]}, expect=503)
    assert r.code == "sandbox_capacity" and "64" in r.text
    ps[0].remove()
    until(lambda: box.client.post(box.v1 + "/processes", {"cmd": ["true"]}).status == 201, 5)
    box.stop()
    listed = box.client.get(box.v1 + "/processes").json()["processes"]
    until(lambda: all(p["status"] != "running" for p in
                      box.client.get(box.v1 + "/processes").json()["processes"]), 10)
    assert len(listed) == 64


def test_fifty_at_once_each_with_its_own_output(make_sandbox):
    box = make_sandbox()

    def one(i):
        p = Process(box, "bash", "-c", f"for k in $(seq 200); do echo {i}-$k; done; exit {i}")
        with p.follow() as s:
            events = list(raw_events(s))
        return p, data_of(events), events[-1][2]["process"]["exit_code"]

    with ThreadPoolExecutor(50) as pool:
        for i, (p, text, code) in enumerate(pool.map(one, range(50))):
            assert code == i and text == "".join(f"{i}-{k}\n" for k in range(1, 201))
            assert p.output().decode() == text


def test_one_that_ends_on_its_last_line_has_taken_it(box):
    for _ in range(60):
        p = Process(box, "head", "-c", "1", stdin=True)
        p.feed(b"x", eof=True)
        assert p.ended()["exit_code"] == 0 and p.output() == b"x"


def test_followers_of_one_process_all_see_all(box):
    p = Process(box, "bash", "-c", "read; for i in $(seq 300); do echo $i; done", stdin=True)
    streams = [p.follow() for _ in range(8)]
    p.feed(b"\n", eof=True)
    want = "".join(f"{i}\n" for i in range(1, 301))
    for s in streams:
        with s:
            assert data_of(raw_events(s)) == want


def test_records_of_ended_ones_are_bounded(make_sandbox):
    box = make_sandbox()
    first = Process(box, "echo", "first")
    first.ended()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Process(box, "true"), range(110)))
    until(lambda: len(box.client.get(box.v1 + "/processes").json()["processes"]) == 100, 10)
    first.get(expect=404)


@pytest.mark.skipif(SLOW != 1, reason="sanitizers keep freed memory back")
def test_memory_of_ended_output_is_given_back(make_daemon):
    d = make_daemon()
    box = Sandbox.create(d)
    before = d.rss_kib()
    for _ in range(4):
        with ThreadPoolExecutor(8) as pool:
            ps = list(pool.map(lambda _: Process(box, "head", "-c", str(KEEP), "/dev/zero"), range(16)))
        for p in ps:
            p.ended(30)
    until(lambda: d.rss_kib() - before < d.rss_slack(32 * 1024), 10,
          f"64 MiB of output are not kept in memory ({before} -> {d.rss_kib()} KiB)")
    assert len(ps[0].output()) > KEEP * 0.8
