"""Commands: what goes in, what comes out, how they end, and that nothing of them is left."""

import base64
import concurrent.futures
import itertools
import json
import re
import socket
import time

import pytest

from sandboxd import PATIENCE, Sandbox, until

MISSING = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
unique = itertools.count(int(time.time()) % 100000 * 1000)


@pytest.fixture(scope="module")
def box(_shared):
    """The sandbox that the tests of this file share."""
    box = Sandbox.create(_shared, env={"FROM_BOX": "box", "BOTH": "box", "LANG": "C.UTF-8"})
    yield box
    box.purge()


def exec_call(box, **fields):
    return box.client.post(f"/sandbox/{box.id}/exec", fields)


def run(box, cmd, **fields):
    return exec_call(box, cmd=cmd, **fields).expect(200).json()


def shell(box, script, **fields):
    return run(box, ["bash", "-c", script], **fields)


def marker():
    """An argument for sleep that no other process has."""
    return f"3000.{next(unique)}"


def alive(box, mark):
    """Is a process with this argument there?"""
    return mark in run(box, ["ps", "-eo", "args"])["stdout"]


def gone(box, mark, seconds=10):
    until(lambda: not alive(box, mark), seconds, f"no process with {mark}")


class Events:
    """An exec whose output is read as it comes, as (type, data) pairs."""

    def __init__(self, box, accept="text/event-stream", **fields):
        headers = {"Accept": accept} if accept else {}
        self.stream = box.client.stream("POST", f"/sandbox/{box.id}/exec", fields, headers=headers)
        self.kind = self.stream.headers["Content-Type"]
        if self.kind.startswith("application/x-ndjson"):
            self.pairs = ((e.pop("type"), e) for e in self.stream.ndjson())
        else:
            self.pairs = self.stream.sse()

    def event(self):
        """The next event, or None at the end."""
        return next(self.pairs, None)

    def rest(self):
        return list(self.pairs)

    def drop(self):
        self.stream.close()


def text_of(events, kind):
    out = b""
    for name, data in events:
        if name == kind:
            out += base64.b64decode(data["base64"]) if "base64" in data else data["data"].encode()
    return out


# --- what goes in ---


def test_what_took_long_is_told(daemon, sandbox):
    sandbox.exec("sleep 2.1")
    until(lambda: any('"request.slow"' in line and "/exec" in line for line in daemon.log().splitlines()), 5, "a line")


@pytest.mark.quick
def test_argv_and_string(box):
    got = run(box, ["printf", "%s|", "a b", "$HOME", "", "\"'\\", "\n", "-n", "*"])
    assert got["stdout"] == "a b|$HOME||\"'\\|\n|-n|*|"
    assert (got["exit_code"], got["stderr"], got["truncated"]) == (0, "", False)
    assert got["bytes"] == {"stdout": len(got["stdout"]), "stderr": 0}
    assert "signal" not in got and "timed_out" not in got
    got = run(box, "echo $((6*7)); echo oops >&2; exit 3")
    assert (got["stdout"], got["stderr"], got["exit_code"]) == ("42\n", "oops\n", 3)


def test_strange_argv_arrives_unchanged(box):
    strange = ["\u20ac\U0001f600", "\x01\x7f\x1b[0m", "\u202e", "a\tb\r\nc", " ", "--",
               "x" * 100000,
               "`id`", "$(id)", ";", "|", "{}", "\ufeff", "%s%n", "\\x00"]
    script = "import sys,json;print(json.dumps(sys.argv[1:]))"
    got = run(box, ["python3", "-c", script, *strange])
    assert json.loads(got["stdout"]) == strange
    count = run(box, ["bash", "-c", "echo $#", "x", *["a"] * 1000])
    assert count["stdout"] == "1000\n"


@pytest.mark.quick
def test_stdin(box):
    assert run(box, ["cat"])["stdout"] == "", "without stdin it reads nothing"
    for text in "", "x", "two\nlines\n", "\u20ac\u0001", "z" * 1000000:
        assert run(box, ["cat"], stdin=text)["stdout"] == text
    assert run(box, ["true"], stdin="z" * 1000000)["exit_code"] == 0, "stdin left unread"
    got = shell(box, "head -c 3; exec <&-; echo", stdin="abcdef")
    assert got["stdout"] == "abc\n"


@pytest.mark.quick
def test_cwd(box):
    assert shell(box, "pwd")["stdout"] == "/home/sandbox/workspace\n"
    shell(box, "mkdir -p deep/er; ln -sfn /etc link; ln -sfn deep inner")
    for cwd, want in [("/home/sandbox", "/home/sandbox"),
                      ("/home/sandbox/workspace/deep/er", "/home/sandbox/workspace/deep/er")]:
        assert shell(box, "pwd -P", cwd=cwd)["stdout"].strip() == want
    reply = exec_call(box, cmd=["pwd"], cwd="/home/sandbox/workspace/missing")
    assert reply.status == 400 and "cwd" in reply.json()["error"], reply
    reply = exec_call(box, cmd=["pwd"], cwd="/home/sandbox/.bashrc")
    assert reply.status == 400 and "cwd" in reply.json()["error"], reply


def test_cwd_and_user_open_no_way_out(box):
    """T-15: refused, or the process is still the sandbox's user at a place inside."""
    odd = [f"/proc/self/fd/{n}" for n in range(64)] + [
        "/proc/1/root", "/proc/1/cwd", "/proc/self/root/../..", "/", "/etc", "/.sandboxed",
        "/.sandboxed/run", "/home/sandbox/../../etc", "/home/sandbox/workspace/link", "..", "",
        "/home/sandbox/workspace/../../..", "relative", "/home/sandboxx", "x" * 5000, "/dev/fd/3",
        "/home/sandbox\n", "/proc/self/task/1/cwd",
    ]
    shell(box, "ln -sfn /etc link")

    def attempt(cwd):
        return cwd, exec_call(box, cmd="id -u; pwd -P", cwd=cwd)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for cwd, reply in pool.map(attempt, odd):
            if reply.status == 200:
                uid, where = reply.json()["stdout"].split()
                assert uid == "1000"
                assert where == "/tmp" or where.startswith(("/home/sandbox", "/tmp/")), (cwd, where)
            else:
                assert reply.status == 400 and "cwd" in reply.json()["error"], (cwd, reply)
    for user in "0", "root", "0:0", "-1", " 1000", "1000:0", "99999999999", "", 0, None, []:
        reply = exec_call(box, cmd="id -u; id -g", user=user)
        assert reply.status == 400 or reply.json()["stdout"].split() == ["1000", "1000"], user


@pytest.mark.quick
def test_environment_and_its_precedence(box):
    got = run(box, ["env", "-0"], env={"BOTH": "request", "MINE": "a=b\u20ac", "HOME": "/tmp"})
    env = dict(pair.split("=", 1) for pair in got["stdout"].split("\0") if pair)
    assert env["SANDBOXED_TEST_IMAGE"] == "debian", "the image's own"
    assert (env["FROM_BOX"], env["BOTH"], env["MINE"], env["USER"], env["HOME"]) == (
        "box", "request", "a=b\u20ac", "sandbox", "/tmp")
    env = run(box, ["env"])["stdout"].splitlines()
    assert "HOME=/home/sandbox" in env and "BOTH=box" in env
    assert not [e for e in env if e.startswith("MINE=")], "one request's variables stay its own"
    assert len([e for e in env if e.startswith("BOTH=")]) == 1


BAD_EXEC = [
    ({}, "cmd"), ({"cmd": []}, "cmd"), ({"cmd": ""}, "cmd"), ({"cmd": [""]}, "cmd"),
    ({"cmd": 1}, "cmd"), ({"cmd": None}, "cmd"), ({"cmd": {}}, "cmd"), ({"cmd": ["a", 1]}, "cmd"),
    ({"cmd": ["a\u0000b"]}, ""), ({"cmd": "a\u0000b"}, ""), ({"cmd": ["true"] * 1025}, "cmd"),
    ({"cmd": ["true", "x" * 600000]}, ""),
    ({"cmd": ["true"], "stdin": 1}, "stdin"), ({"cmd": ["true"], "cwd": 1}, "cwd"),
    ({"cmd": ["true"], "env": []}, "env"), ({"cmd": ["true"], "env": {"A=B": "c"}}, "env"),
    ({"cmd": ["true"], "env": {"": "c"}}, "env"), ({"cmd": ["true"], "env": {"A": 1}}, "env"),
    ({"cmd": ["true"], "env": {"A": "x\u0000"}}, ""),
    ({"cmd": ["true"], "env": {f"K{i}": "x" for i in range(101)}}, "env"),
    ({"cmd": ["true"], "timeout_ms": -1}, "timeout_ms"),
    ({"cmd": ["true"], "timeout_ms": "1"}, "timeout_ms"),
    ({"cmd": ["true"], "timeout_ms": 1.5}, "timeout_ms"),
    ({"cmd": ["true"], "timeout_ms": 86400001}, "timeout_ms"),
    ({"cmd": ["true"], "stream": "yes"}, "stream"), ({"cmd": ["true"], "detach": 1}, "detach"),
]


@pytest.mark.parametrize("body, word", BAD_EXEC, ids=[json.dumps(b)[:50] for b, _ in BAD_EXEC])
def test_bad_exec_is_a_4xx_that_names_the_field(daemon, box, body, word):
    reply = daemon.post(f"/sandbox/{box.id}/exec", body)
    assert reply.status in (400, 413), reply
    assert word in reply.json()["error"]


def test_a_command_that_cannot_be_run_says_why(box):
    shell(box, "echo x > plain; chmod 644 plain; printf '\\177ELFxx' > bad; chmod 755 bad")
    for cmd in (["no-such-command"], ["/nowhere/x"], ["/home/sandbox/workspace/plain"],
                ["/home/sandbox"], ["/home/sandbox/workspace/bad"], ["true", "x" * 140000]):
        reply = exec_call(box, cmd=cmd)
        if reply.status == 200:
            assert reply.json()["exit_code"] in (126, 127) and reply.json()["stderr"]
        else:
            assert reply.status == 400 and cmd[0] in reply.json()["error"], reply


@pytest.mark.quick
def test_exec_on_a_missing_sandbox_is_404(daemon):
    reply = daemon.post(f"/sandbox/{MISSING}/exec", {"cmd": ["true"]})
    assert reply.status == 404 and isinstance(reply.json()["error"], str)
    assert daemon.post("/sandbox/demo01/exec", {"cmd": ["true"]}).status == 404


# --- what comes out ---


@pytest.mark.quick
@pytest.mark.parametrize("script, code, name", [
    ("exit 0", 0, None), ("exit 1", 1, None), ("exit 255", 255, None), ("exit 256", 0, None),
    ("kill -KILL $$", 137, "SIGKILL"), ("kill -TERM $$", 143, "SIGTERM"),
    ("kill -SEGV $$", 139, "SIGSEGV"), ("kill -USR1 $$", 138, "SIGUSR1"),
    ("exit 137", 137, None),
])
def test_exit_codes_and_signals(box, script, code, name):
    got = shell(box, script)
    assert (got["exit_code"], got.get("signal")) == (code, name)


def test_bytes_that_are_not_utf8(box):
    got = shell(box, "printf 'a\\377\\000b\\342\\202'")
    assert re.fullmatch("a\ufffd\0b\ufffd+", got["stdout"]) and got["bytes"]["stdout"] == 6
    stream = Events(box, cmd=["bash", "-c", "printf 'a\\377\\000b\\342\\202'"])
    assert text_of(stream.rest(), "stdout") == b"a\xff\0b\xe2\x82"


@pytest.mark.quick
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_output_arrives_while_the_command_runs(box, accept):
    go = f"go{next(unique)}"
    script = f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two >&2; exit 5"
    stream = Events(box, accept, cmd=["bash", "-c", script])
    assert stream.stream.status == 200 and stream.kind.startswith(accept)
    name, data = stream.event()
    assert name == "started" and isinstance(data["pid"], int)
    assert stream.event() == ("stdout", {"data": "one\n"})
    # The command cannot have ended: what lets it end is made only now.
    assert shell(box, f"kill -0 {data['pid']} && touch {go}")["exit_code"] == 0
    assert stream.event() == ("stderr", {"data": "two\n"})
    name, data = stream.event()
    assert (name, data["exit_code"], data["bytes"]) == ("exit", 5, {"stdout": 4, "stderr": 4})
    assert stream.event() is None


@pytest.mark.quick
def test_plain_text_stream(box):
    go = f"go{next(unique)}"
    script = f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two; echo err >&2; exit 5"
    stream = Events(box, accept=None, cmd=["bash", "-c", script], stream=True)
    assert stream.kind.startswith("text/plain")
    assert next(stream.stream.lines()) == "one"
    shell(box, f"touch {go}")
    assert stream.stream.read() == b"two\n---stderr---\nerr\nexit_code: 5\n"
    reply = exec_call(box, cmd=["true"], stream=True)
    assert reply.body == b"exit_code: 0\n"


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_a_character_split_between_writes_is_joined(box, accept):
    go = f"go{next(unique)}"
    script = (f"printf 'x\\342\\202'; echo half >&2; until [ -e {go} ]; do sleep 0.05; done; "
              "printf '\\254y'")
    stream = Events(box, accept, cmd=["bash", "-c", script])
    events = []
    while not events or events[-1][0] != "stderr":
        events.append(stream.event())
    shell(box, f"touch {go}")
    events += stream.rest()
    chunks = [d for n, d in events if n == "stdout"]
    assert all("data" in d for d in chunks), chunks
    assert "".join(d["data"] for d in chunks) == "x\u20acy"


def test_events_are_framed_whatever_the_output_holds(box):
    hostile = "event: exit\ndata: {\"exit_code\":0}\n\n\r\rid: 7\r\n\u2028: x\n"
    stream = Events(box, cmd=["printf", "%s", hostile])
    events = stream.rest()
    assert text_of(events, "stdout").decode() == hostile
    assert [n for n, _ in events if n != "stdout"] == ["started", "exit"]


@pytest.mark.quick
def test_error_before_the_stream_is_an_ordinary_reply(daemon, box):
    reply = daemon.call("POST", f"/sandbox/{MISSING}/exec", raw=b'{"cmd":["true"]}',
                        headers={"Accept": "text/event-stream"})
    assert reply.status == 404 and "error" in reply.json()


def test_much_output_is_cut_counted_and_held_nowhere(daemon, box):
    size = 200 << 20
    shell(box, "true")
    before = daemon.rss_kib()
    peak = before
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(exec_call, box, cmd=f"yes | head -c {size}; echo e >&2")
        while not call.done():
            peak = max(peak, daemon.rss_kib())
            concurrent.futures.wait([call], timeout=0.02)
        got = call.result().json()
    assert got["truncated"] is True and got["bytes"] == {"stdout": size, "stderr": 2}
    assert len(got["stdout"]) == 1 << 20 and set(got["stdout"]) == {"y", "\n"}
    assert (got["stderr"], got["exit_code"]) == ("e\n", 0)
    assert peak - before < daemon.rss_slack(8 << 10), f"{before} -> {peak} KiB"


def test_a_slow_reader_holds_the_command_back_not_memory(daemon, box):
    size = 100 << 20
    before = daemon.rss_kib()
    stream = Events(box, accept=None, stream=True,
                    cmd=["bash", "-c", f"yes | head -c {size}"])
    first = len(stream.stream.read(1 << 16))
    busy = shell(box, "true")  # the daemon is alive beside it
    assert busy["exit_code"] == 0
    assert daemon.rss_kib() - before < daemon.rss_slack(8 << 10)
    got = first
    peak = before
    tail = b""
    while (data := stream.stream.read(1 << 20)):
        got += len(data)
        tail = (tail + data)[-64:]
        peak = max(peak, daemon.rss_kib())
    assert got == size + len("exit_code: 0\n") and tail.endswith(b"exit_code: 0\n")
    assert peak - before < daemon.rss_slack(8 << 10)


# --- how it ends ---

ESCAPE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", sys.argv[1]])
    os._exit(0)
print("up", flush=True)
time.sleep(float(sys.argv[2]))
"""


def test_timeout_ends_everything_that_came_of_it(box):
    mark = marker()
    began = time.monotonic()
    # It has said that it is up by then: a busy machine takes a while to start an interpreter.
    got = run(box, ["python3", "-c", ESCAPE, mark, "300"], timeout_ms=int(1000 * PATIENCE))
    assert time.monotonic() - began < 8 * PATIENCE
    assert got["timed_out"] is True and got["exit_code"] >= 128 and got["stdout"] == "up\n"
    assert not alive(box, mark), "a double fork outlived the timeout"
    got = run(box, ["sleep", "0"], timeout_ms=5000)
    assert "timed_out" not in got
    stream = Events(box, cmd=["sleep", marker()], timeout_ms=200)
    name, data = stream.rest()[-1]
    assert name == "exit" and data["timed_out"] is True


def test_the_end_of_the_command_is_the_end_of_its_children(box):
    mark = marker()
    began = time.monotonic()
    got = run(box, ["python3", "-c", ESCAPE, mark, "0"])
    assert (got["stdout"], got["exit_code"]) == ("up\n", 0)
    assert time.monotonic() - began < 8 * PATIENCE
    assert not alive(box, mark)


def test_output_before_the_end_is_whole(box):
    """What a command wrote last must not be lost to its end."""
    for n in range(20):
        got = shell(box, "head -c 300000 /dev/zero | tr '\\0' x; echo -n y >&2")
        assert got["bytes"] == {"stdout": 300000, "stderr": 1}, n
        assert got["stdout"] == "x" * 300000


@pytest.mark.parametrize("accept, stream", [
    ("text/event-stream", False), ("application/x-ndjson", False), (None, True), (None, False)],
    ids=["sse", "ndjson", "text", "whole"])
def test_a_dropped_client_ends_the_command(daemon, box, accept, stream):
    mark = marker()
    fields = {"cmd": ["python3", "-c", ESCAPE, mark, "300"], **({"stream": True} if stream else {})}
    if accept or stream:
        client = Events(box, accept, **fields)
        until(lambda: alive(box, mark), 10, "the command is up")
        client.drop()
    else:
        body = json.dumps(fields).encode()
        with socket.create_connection(daemon.address) as s:
            s.sendall(f"POST /sandbox/{box.id}/exec HTTP/1.1\r\nHost: localhost\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: alive(box, mark), 10, "the command is up")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gone(box, mark)


def test_a_dropped_client_whose_command_floods(box):
    mark = marker()
    client = Events(box, cmd=["bash", "-c", f"sleep {mark} & yes"])
    client.event()
    until(lambda: alive(box, mark), 10, "the command is up")
    client.drop()
    gone(box, mark)


@pytest.mark.quick
def test_a_half_closed_client_is_still_answered(daemon, box):
    go = f"go{next(unique)}"
    body = json.dumps({"cmd": f"until [ -e {go} ]; do sleep 0.05; done; echo done"}).encode()
    with socket.create_connection(daemon.address, timeout=20) as s:
        s.sendall(f"POST /sandbox/{box.id}/exec HTTP/1.1\r\nHost: localhost\r\n"
                  f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        s.shutdown(socket.SHUT_WR)
        # Several rounds of the daemon's look for gone clients pass before the command may end.
        shell(box, f"sleep 2.5; touch {go}")
        answer = b""
        while (data := s.recv(65536)):
            answer += data
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and b"done\\n" in answer


def test_detached_commands_outlive_their_client(box):
    mark = marker()
    began = time.monotonic()
    reply = exec_call(box, cmd=["sleep", mark], detach=True)
    assert reply.status in (200, 202) and time.monotonic() - began < 5 * PATIENCE, reply
    pid = reply.json()["pid"]
    assert shell(box, f"tr '\\0' ' ' < /proc/{pid}/cmdline")["stdout"].strip() == f"sleep {mark}"
    mark2 = marker()
    client = Events(box, cmd=["bash", "-c", f"yes & sleep {mark2}"], detach=True)
    until(lambda: alive(box, mark2), 10, "the command is up")
    client.drop()
    shell(box, "sleep 1.5")
    assert alive(box, mark2) and alive(box, mark)
    shell(box, f"pkill -f {mark2}; pkill -f {mark}; pkill yes")


def test_nothing_becomes_a_zombie(box):
    shell(box, "for i in $(seq 50); do (true &) ; done")
    shell(box, "for i in $(seq 20); do setsid -f true; done")
    until(lambda: " Z " not in run(box, ["ps", "-eo", "args,stat,pid"])["stdout"], 5,
          "no zombie")


# --- with the sandbox's own life ---


@pytest.mark.quick
def test_exec_wakes_a_stopped_sandbox(box):
    shell(box, "echo kept > /home/sandbox/kept")
    assert box.stop().json()["status"] == "stopped"
    got = run(box, ["cat", "/home/sandbox/kept"])
    assert got["stdout"] == "kept\n"
    assert box.status == "running"


@pytest.mark.concurrent
def test_execs_at_once_wake_a_sandbox_once(daemon, box):
    box.stop()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(run, box, ["echo", str(n)]) for n in range(16)]
        assert [j.result()["stdout"] for j in jobs] == [f"{n}\n" for n in range(16)]
    assert len(daemon.containers(box.id)) == 1


@pytest.mark.concurrent
def test_sixty_four_at_once_and_one_too_many(daemon, box):
    go = f"go{next(unique)}"
    script = f"echo $1; until [ -e {go} ]; do sleep 0.5; done; echo $1 >&2"
    streams = []
    try:
        for n in range(64):
            streams.append(Events(box, cmd=["bash", "-c", script, "x", str(n)]))
        for n, stream in enumerate(streams):
            assert stream.event()[0] == "started"
            assert stream.event() == ("stdout", {"data": f"{n}\n"})
        reply = exec_call(box, cmd=["true"])
        assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, reply
        box.put_file(f"/home/sandbox/workspace/{go}", b"")
        for n, stream in enumerate(streams):
            events = stream.rest()
            assert text_of(events, "stderr") == b"%d\n" % n and events[-1][1]["exit_code"] == 0
    finally:
        for stream in streams:
            stream.drop()
    until(lambda: exec_call(box, cmd=["true"]).status == 200, 5, "room again")


@pytest.mark.concurrent
def test_many_short_commands_from_many_clients(box):
    def client(n):
        for i in range(15):
            got = run(box, ["sh", "-c", "cat; echo $0 >&2; exit 7", f"{n}.{i}"],
                      stdin=f"in {n}.{i}")
            assert (got["stdout"], got["stderr"], got["exit_code"]) == (
                f"in {n}.{i}", f"{n}.{i}\n", 7)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))


@pytest.mark.concurrent
def test_clients_that_vanish_at_any_moment(daemon, box):
    """Whatever the moment, the command ends and the daemon goes on."""
    mark = marker()
    body = json.dumps({"cmd": ["sleep", mark], "stream": True}).encode()
    head = (f"POST /sandbox/{box.id}/exec HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    whole = head + body
    for cut in list(range(1, len(whole), 17)) + [len(whole)] * 10:
        with socket.create_connection(daemon.address) as s:
            s.sendall(whole[:cut])
            if cut % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gone(box, mark)
    assert run(box, ["true"])["exit_code"] == 0


def test_agent_is_out_of_reach(box):
    """PID 1 is ours: not to be signalled away, traced or read by what runs beside it."""
    got = shell(box, "kill -KILL 1; kill -TERM 1; kill -STOP 1; head -c1 /proc/1/environ; "
                "head -c1 /proc/1/mem; ls /proc/1/fd; cat /proc/1/status | head -1; id -u")
    assert got["stdout"].splitlines()[-1] == "1000"
    assert "Permission denied" in got["stderr"]
    assert run(box, ["true"])["exit_code"] == 0
    got = shell(box, "ls -l /proc/self/fd | grep -c socket; "
                "python3 -c 'import os;print(sorted(map(int,os.listdir(\"/proc/self/fd\"))))'")
    assert got["stdout"].splitlines()[0] == "0", "a descriptor of ours leaked into the command"
    # Whoever dials the socket without the secret is not let in, and harms nobody.
    script = """
import socket, os
ok = 0
hello = b"\\x2a\\0\\0\\0\\x01\\x01\\0\\0" + b"\\x01\\0" + bytes(40)
for hello in (b"", b"\\0" * 50, os.urandom(50), hello):
    s = socket.socket(socket.AF_UNIX); s.settimeout(10)
    s.connect("/.sandboxed/run/agent.sock"); s.sendall(hello)
    s.shutdown(socket.SHUT_WR)
    try: ok += len(s.recv(4096))
    except ConnectionError: pass
print(ok)
"""
    assert run(box, ["python3", "-c", script])["stdout"] == "0\n"
    assert run(box, ["true"])["exit_code"] == 0
