"""The command line: the real binary as its own client, against a daemon of its own, in pipes and at a real terminal."""
import fcntl
import hashlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

import sandboxd
from sandboxd import Sandbox, until

pytestmark = pytest.mark.timeout(120)

BINARY = os.path.abspath(sandboxd.BINARY)
TOKEN = "secret-of-ann-0123456789"


class Cli:
    """Runs commands of the client; the token is in the environment alone."""

    def __init__(self, daemon, token=TOKEN):
        self.daemon = daemon
        self.env = {"PATH": "/usr/bin:/bin", "SANDBOXD_URL": f"http://127.0.0.1:{daemon.port}", "TERM": "xterm-256color"}
        if token:
            self.env["SANDBOXD_TOKEN"] = token
        self.env |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}

    def __call__(self, *args, status=0, input=None, cwd=None):
        r = subprocess.run([BINARY, *map(str, args)], input=input, capture_output=True, timeout=90, env=self.env, cwd=cwd)
        assert r.returncode == status, (args, r)
        return r

    def out(self, *args, **kw):
        return self(*args, **kw).stdout.decode()

    def err(self, *args, **kw):
        r = self(*args, **kw)
        assert r.stdout == b"", r
        return r.stderr.decode()

    def json(self, *args, **kw):
        return json.loads(self.out(*args, "-o", "json", **kw))

    def start(self, *args, **kw):
        return subprocess.Popen([BINARY, *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


@pytest.fixture(scope="module")
def cli():
    d = sandboxd.Daemon(SANDBOXD_API_AUTH_DISABLED="false", SANDBOXD_API_TOKENS=f"ann:{TOKEN},bob:secret-of-bob-0123456789")
    try:
        yield Cli(d.start())
    finally:
        d.close()


@pytest.fixture(scope="module")
def box(cli):
    return cli.out("create", "--name", "web").strip()


# --- sandboxes ---


@pytest.mark.quick
def test_the_life_of_a_sandbox(cli):
    box = cli.out("create", "--name", "life", "-p", "8080", "-p", "3000", "-e", "A=b", "-m", "team=x", "--memory", 256,
                  "--cpus", "0.5", "--visibility", "private", "--idle-timeout", "20m", "--project", "p1").strip()
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", box)
    told = cli.json("show", "life")
    assert told["id"] == box and [p["port"] for p in told["ports"]] == [3000, 8080] and told["env"] == ["A"]
    assert told["metadata"] == {"team": "x", "name": "life"} and told["limits"]["memory_mib"] == 256
    assert told["limits"]["cpus"] == 0.5 and told["visibility"] == "private" and told["idle_timeout_s"] == 1200
    text = cli.out("show", box)
    for said in [box, "running", "because", f"http://s-{box.lower()}-8080.", "private", "memory_mib 256", "team=x"]:
        assert said in text, (said, text)
    lines = cli.out("ls", "-m", "team=x").splitlines()
    assert len(lines) == 2 and lines[0].split()[:3] == ["ID", "NAME", "STATUS"] and lines[1].split()[:3] == [box, "life", "running"]
    cli("exec", "life", "sh", "-c", "echo kept > ~/workspace/app/f")
    assert cli.out("stop", "life") == box + "\n"
    assert cli.out("ls", "-q", "-s", "stopped", "--project", "p1") == box + "\n"
    assert cli.json("start", "life")["status"] == "running"
    cli("pause", "life")
    assert cli.json("show", "life")["status"] == "paused"
    cli("rm", "life")
    assert cli.json("ls", "-m", "team=x") == []
    assert cli.out("create", "--id", box).strip() == box
    assert cli.out("files", "cat", f"{box}:f") == "kept\n"
    assert cli.json("purge", box) == {"id": box, "purged": True}
    assert "no sandbox" in cli.err("show", box, status=1)


def test_names_prefixes_and_what_is_ambiguous(cli, box):
    one, two = [cli("create", "--name", "twin", "--project", f"pair-{i}") for i in range(2)]
    assert b"named twin, too" in two.stderr and b"twin" not in one.stderr
    one, two = [r.stdout.decode().strip() for r in (one, two)]
    try:
        assert cli.json("show", "pair-1")["id"] == two
        assert cli.json("show", two.lower())["id"] == two
        assert cli.json("show", two[:-1])["id"] == two and cli.json("show", two[:-1].lower())["id"] == two
        text = cli.err("show", "twin", status=1)
        assert one in text and two in text and "2 sandboxes" in text and "remedy: Take more of the id" in text
        both = os.path.commonprefix([one, two])
        assert "sandboxes answer" in cli.err("stop", both, status=1), "ids of one minute begin alike"
        assert "no sandbox answers to frob" in cli.err("stop", "frob", status=1)
    finally:
        cli("purge", one, two)
    # One that is not there does not keep the others from their turn.
    r = cli("stop", "frob", "web", status=1)
    assert r.stdout.decode() == box + "\n" and b"frob" in r.stderr
    cli("start", "web")


# --- exec ---


@pytest.mark.quick
def test_exec_passes_output_and_status_on(cli, box):
    r = cli("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7", status=7)
    assert (r.stdout, r.stderr) == (b"out\n", b"err\n")
    assert cli("exec", box, "printf", r"\377\000x").stdout == b"\xff\0x"
    assert cli.out("exec", "-e", "X=a b", "-e", "Y=", "-w", "/tmp", "web", "sh", "-c", 'echo "$X|$Y|$PWD"') == "a b||/tmp\n"
    assert cli.out("exec", "web", "echo", "-n", "--help", "-o") == "--help -o"
    for command, status in [(["nosuch"], 127), (["/etc/passwd"], 126), (["sh", "-c", "kill -TERM $$"], 143),
                            (["false"], 1), (["sh", "-c", "exit 255"], 255)]:
        assert cli("exec", "web", *command, status=status).stdout == b"", command
    assert "nosuch: not found" in cli.err("exec", "web", "nosuch", status=127)
    cli("exec", "--timeout", "300ms", "web", "sleep", "60", status=124)
    assert "cwd" in cli.err("exec", "-w", "/nope", "web", "true", status=125)
    events = [json.loads(line) for line in cli.out("exec", "-o", "json", "web", "echo", "hi").splitlines()]
    assert [e["type"] for e in events] == ["stdout", "exit"] and events[0]["data"] == "hi\n"
    assert cli.json("ps", "-a", "web") == [], "exec leaves no record behind"


def test_exec_takes_and_gives_any_amount(cli, box):
    """Both ways at once, faster than the reader, in constant memory."""
    size = 24 * 1024 * 1024
    p = cli.start("exec", "-i", "web", "--", "sh", "-c", "tee /dev/stderr | cat", stdin=subprocess.PIPE)
    block, sent = os.urandom(65536), hashlib.sha256()

    def feed():
        for _ in range(size // len(block)):
            sent.update(block)
            p.stdin.write(block)
        p.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    got = {p.stdout: hashlib.sha256(), p.stderr: hashlib.sha256()}
    peak, rounds = 0, 0
    while open_ones := [f for f in got if not f.closed]:
        for f in select.select(open_ones, [], [])[0]:
            if data := os.read(f.fileno(), 262144):
                got[f].update(data)
            else:
                f.close()
            rounds += 1
            if rounds % 50 == 0: # gone from a process that has ended
                peak = int((re.findall(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{p.pid}/status").read_text()) or [peak])[0])
    feeder.join()
    assert p.wait() == 0
    assert [h.hexdigest() for h in got.values()] == [sent.hexdigest()] * 2
    if sandboxd.SLOW == 1:
        assert 0 < peak < 40 * 1024, f"{peak} KiB"


def test_a_slow_reader_slows_the_command(cli, box):
    size = 24 * 1024 * 1024
    p = cli.start("exec", "web", "--", "sh", "-c", f"head -c {size} /dev/zero; echo done >&2")
    assert p.stdout.read(1) == b"\0"
    process = until(lambda: cli.json("ps", "web"), what="it is seen")[0]["id"]
    url = f"/v1/sandboxes/{box}/processes/{process}"
    client = cli.daemon.client(TOKEN)
    seen = []

    def waits():
        seen.append(client.get(url).json()["bytes"])
        return len(seen) > 20 and seen[-1] == seen[-20] > 0

    until(waits, what="it waits for us")
    assert client.get(url).json()["status"] == "running" and seen[-1] < 2 << 20, "what is kept, and no more"
    assert len(p.stdout.read()) == size - 1 and p.stderr.read() == b"done\n" and p.wait() == 0


def test_exec_passes_signals_on(cli, box):
    script = "trap 'echo got-int; exit 42' INT; trap 'echo got-term' TERM; echo ready; while :; do sleep 0.05; done"
    p = cli.start("exec", "web", "--", "sh", "-c", script)
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGTERM)
    assert p.stdout.readline() == b"got-term\n"
    p.send_signal(signal.SIGINT)
    assert p.stdout.read() == b"got-int\n" and p.wait(20) == 42
    p = cli.start("exec", "web", "--", "sh", "-c", "trap 'echo no' INT; echo no; while :; do sleep 0.05; done")
    for _ in range(3): # it does not listen: the third is meant
        assert p.stdout.readline() == b"no\n"
        p.send_signal(signal.SIGINT)
    assert p.stdout.read() == b"" and p.wait(20) == 137
    # Nobody reads any more: it ends, over there, too.
    p = cli.start("exec", "web", "--", "sh", "-c", "while :; do echo y; done")
    assert p.stdout.readline() == b"y\n"
    p.stdout.close()
    assert p.wait(20) == 128 + signal.SIGPIPE
    until(lambda: cli.json("ps", "-a", "web") == [], what="nothing is left")


@pytest.mark.parametrize("hard", [True, False], ids=["kill9", "term"])
def test_exec_outlives_the_daemon(cli, box, hard):
    p = cli.start("exec", "web", "--", "sh", "-c",
                  f"i=0; until [ -e app/end-{hard} ]; do echo $((i += 1)); sleep 0.05; done; exit 5")
    assert p.stdout.readline() == b"1\n"
    cli.daemon.restart(hard)
    cli("cp", "-", f"web:end-{hard}", input=b"")
    told = p.stdout.read().decode().split()
    assert told == [str(i) for i in range(2, len(told) + 2)], p.stderr.read()
    assert p.wait(30) == 5


def test_detached_ps_logs_wait_kill(cli, box):
    p = cli.out("exec", "-d", "web", "sh", "-c",
                "echo a; echo b >&2; until [ -e app/go-on ]; do sleep 0.05; done; echo c; exit 3").strip()
    row = until(lambda: [r for r in cli.out("ps", "web").splitlines() if p in r], what="listed")[0]
    assert "running" in row and "sh -c 'echo a;" in row
    follow = cli.start("logs", "-f", "web", p)
    assert follow.stdout.readline() == b"a\n"
    cli("cp", "-", "web:go-on", input=b"")
    cli("wait", "web", p, status=3)
    assert (follow.stdout.read(), follow.stderr.read(), follow.wait()) == (b"c\n", b"b\n", 0)
    assert cli.out("logs", "web", p, "--since", 4) == "c\n"
    assert p not in cli.out("ps", "web") and "exited (3)" in cli.out("ps", "-a", "web")
    p = cli.out("exec", "-d", "web", "sleep", "600", "it's").strip()
    assert r"sleep 600 'it'\''s'" in cli.out("ps", "-a", "web"), "as a shell would take it"
    p = cli.out("exec", "-d", "web", "sleep", "600").strip()
    cli("kill", "web", p, "-s", "usr1")
    cli("wait", "web", p, status=128 + signal.SIGUSR1)
    p = cli.out("exec", "-d", "web", "sh", "-c", "trap '' TERM; echo on; while :; do sleep 1; done").strip()
    until(lambda: cli.out("logs", "web", p) == "on\n", what="its trap is set")
    cli("kill", "web", p)
    cli("kill", "--tree", "-s", "HUP", "web", p)
    cli("wait", "web", p, status=128 + signal.SIGHUP)
    assert "ended" in cli.err("kill", "web", p, status=1)
    cli("kill", "-s", "FROB", "web", p, status=2)


def test_logs_of_a_service(cli):
    box = Sandbox.create(cli.daemon, cli.daemon.client(TOKEN),
                         services=[{"name": "talk", "cmd": "echo one; echo two; echo three; sleep 600"}])
    try:
        until(lambda: "three" in cli.out("logs", box.id, "talk"), what="it talks")
        assert [line.split()[1] for line in cli.out("logs", box.id, "talk", "-n", 2).splitlines()] == ["two", "three"]
        row = cli.out("services", box.id).splitlines()[1].split()
        assert row[:2] == ["talk", "running"]
        assert cli.json("services", box.id)[0]["name"] == "talk"
    finally:
        box.purge()


# --- files ---


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


@pytest.mark.quick
def test_cp_there_and_back(cli, box, tmp_path):
    src = tmp_path / "src"
    (src / "deep/er").mkdir(parents=True)
    (src / "a.txt").write_text("hello\n")
    (src / "deep/er/big").write_bytes(os.urandom(3_000_000))
    (src / "node_modules").mkdir()
    (src / "node_modules/m.js").write_text("1")
    (src / "odd name äöü").write_text("x")
    (src / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (src / "run.sh").chmod(0o755)
    cli("cp", src, "web:up") # up is not there: it becomes it
    cli("cp", src, "web:up") # now it is: into it
    assert cli.out("exec", "web", "app/up/src/run.sh") == "ran\n"
    cli("cp", "web:up", tmp_path / "down")
    want = tree(src)
    assert tree(tmp_path / "down") == want | {"src": None} | {f"src/{k}": v for k, v in want.items()}
    assert (tmp_path / "down/run.sh").stat().st_mode & 0o777 == 0o755
    (tmp_path / "into").mkdir()
    cli("cp", "web:up/src", tmp_path / "into")
    cli("cp", "web:up/src/.", tmp_path / "into")
    assert tree(tmp_path / "into") == want | {"src": None} | {f"src/{k}": v for k, v in want.items()}
    # files
    cli("cp", src / "run.sh", "web:one")
    cli("cp", src / "a.txt", "web:up/")
    cli("cp", "web:one", tmp_path / "one")
    assert (tmp_path / "one").read_text() == (src / "run.sh").read_text() and os.access(tmp_path / "one", os.X_OK)
    cli("cp", "web:one", tmp_path / "into")
    assert (tmp_path / "into/one").exists() and not list(tmp_path.rglob("*.part-*"))
    cli("cp", "-", "web:up/stdin", input=b"\0piped")
    assert cli("cp", "web:up/stdin", "-").stdout == b"\0piped"
    assert cli.json("cp", src, "web:counted") == {"files": 5, "bytes": 3_000_027, "skipped": 0, "failed": 0}
    for wrong, status in [(("a", "b"), 2), (("web:a", "web:b"), 2), (("web:up", "-"), 1), (("-", "web:"), 1),
                          (("web:nosuch", "x"), 1), ((tmp_path / "nosuch", "web:x"), 1)]:
        assert cli.err("cp", *wrong, status=status, cwd=tmp_path), wrong
    cli("stop", "web")
    assert cli("cp", "web:up/a.txt", "-").stdout == b"hello\n", "while it sleeps, too"
    assert cli.json("show", "web")["status"] == "stopped"
    cli("start", "web")


def test_cp_never_leaves_its_directory(cli, box, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/sub").symlink_to(tmp_path) # a link of ours where the sandbox has a directory
    cli("exec", "web", "sh", "-c", "cd app && mkdir -p evil/sub && cd evil && echo x > sub/f && ln -s /etc abs && "
        "ln -s ../../.. up && ln -s sub/f ok && mkfifo p")
    cli("cp", "web:evil/.", tmp_path / "here")
    assert (tmp_path / "here/sub/f").read_text() == "x\n" and not (tmp_path / "f").exists(), "not through our link"
    assert (tmp_path / "here/ok").is_symlink() and not (tmp_path / "here/abs").exists() and not (tmp_path / "here/up").exists()
    (tmp_path / "src").mkdir()
    (tmp_path / "src/link").symlink_to("/etc/passwd")
    assert b"left out: link is a link" in cli("cp", tmp_path / "src", "web:links").stderr
    assert cli.json("files", "ls", "web:links")["entries"] == []
    # A file that did not get there is a fault.
    (tmp_path / "src/two\nlines").touch()
    (tmp_path / "src/good").touch()
    assert rb"left out: two\x0alines" in cli("cp", tmp_path / "src", "web:odd", status=1).stderr
    assert [e["path"] for e in cli.json("files", "ls", "web:odd")["entries"]] == ["odd/good"]


def test_files(cli, box):
    cli("files", "mkdir", "web:f/deep")
    cli("cp", "-", "web:f/deep/poem.txt", input=b"roses\nviolets \x1b[31m\n")
    cli("files", "cp", "web:f/deep", "f/copy")
    cli("files", "mv", "web:f/copy/poem.txt", "web:f/moved.txt")
    cli("files", "chmod", "600", "web:f/moved.txt")
    listed = [line.split() for line in cli.out("files", "ls", "-R", "web:f").splitlines()]
    assert listed[0] == ["MODE", "SIZE", "AGE", "PATH"]
    assert {row[-1] for row in listed[1:]} == {"f/copy/", "f/deep/", "f/deep/poem.txt", "f/moved.txt"}
    assert ["0600", "20", "B"] in [row[:3] for row in listed]
    assert cli.json("files", "stat", "web:f/moved.txt")["mode"] == "0600" and "0600" in cli.out("files", "stat", "web:f/moved.txt")
    assert sorted(cli.out("files", "find", "web:f", "*.txt").splitlines()) == ["f/deep/poem.txt", "f/moved.txt"]
    assert cli.out("files", "grep", "-i", "VIOLETS", "web:f/deep") == "f/deep/poem.txt:2:violets \\x1b[31m\n"
    assert cli.out("files", "grep", "-E", "^r.s", "web:f", "--name", "moved*") == "f/moved.txt:1:roses\n"
    assert cli.out("files", "grep", "roses", "web:f/moved.txt") == "f/moved.txt:1:roses\n"
    assert cli.out("files", "grep", "tulips", "web:f", status=1) == ""
    assert "no such" in cli.err("files", "grep", "tulips", "web:gone", status=2)
    watch = cli.start("files", "watch", "web:f")
    assert watch.stderr.readline() == b"sandboxd: watching\n"
    cli("cp", "-", "web:f/new", input=b"x")
    assert any(line.split()[-1] == b"f/new" for line in iter(watch.stdout.readline, b""))
    watch.terminate()
    watch.wait()
    cli("files", "rm", "web:f/new", "web:f/moved.txt")
    assert "not empty" in cli.err("files", "rm", "web:f", status=1)
    cli("files", "rm", "-r", "web:f")
    assert "no such file" in cli.err("files", "ls", "web:f", status=1)


# --- shell ---


class Terminal:
    """A real terminal with a real emulator, and a command of the client in it."""

    def __init__(self, cli, *args, cols=80, rows=24):
        pyte = pytest.importorskip("pyte")
        self.screen = pyte.Screen(cols, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        self.inner = inner
        self.before = termios.tcgetattr(inner)
        self.process = subprocess.Popen(
            [BINARY, *args], env=cli.env, stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def resize(self, cols, rows):
        self.screen.resize(rows, cols)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def shows(self, text, seconds=30):
        end = time.monotonic() + seconds * sandboxd.SLOW
        while not any(text in row for row in self.screen.display):
            assert select.select([self.fd], [], [], max(0, end - time.monotonic()))[0], (text, self.screen.display)
            self.stream.feed(os.read(self.fd, 65536))
        return True

    def pump(self):
        while select.select([self.fd], [], [], 0)[0]:
            self.stream.feed(os.read(self.fd, 65536))

    def ends(self, status):
        until(lambda: self.pump() or self.process.poll() is not None, 30, "its end")
        assert self.process.returncode == status, self.screen.display
        assert termios.tcgetattr(self.inner) == self.before, "the terminal is as it was"
        self.pump()

    def raw(self):
        return not termios.tcgetattr(self.inner)[3] & termios.ICANON

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.inner)


def test_shell_at_a_real_terminal(cli, box):
    with Terminal(cli, "shell", "web", cols=90, rows=30) as t:
        t.type("stty size; echo grüße-$((40+2))\r")
        assert t.shows("30 90") and t.shows("grüße-42") and t.raw()
        t.type("PS1=ne''xt:\r")
        t.shows("next:") # at its prompt: before, readline asks for the size and sets what it was told
        t.resize(70, 20)
        t.type("until [ \"$(stty size)\" = '20 70' ]; do :; done; echo resi''zed\r")
        t.shows("resized")
        t.type("sh -c 'echo go\"\"ing; exec sleep 1000'\r") # one process: nothing in between
        t.shows("going")
        t.type("\x03")
        t.shows("^C")
        t.type("echo int-$?\r")
        t.shows("int-130")
        t.type("exit 9\r")
        t.ends(9)


def test_shell_detaches_and_attaches(cli, box):
    with Terminal(cli, "shell", "web") as t:
        t.type("X=still; echo rea''dy\r")
        t.shows("ready")
        t.type("\x10\x11")
        t.ends(0)
        t.shows("--attach")
        text = " ".join("".join(row.ljust(80) for row in t.screen.display).split())
    process = re.search("--attach ([0-9A-Z]{26})", text).group(1)
    with Terminal(cli, "shell", "web", "--attach", process) as t:
        t.shows("ready") # what was on the screen
        t.type("echo $X-there\r")
        t.shows("still-there")
        t.process.send_signal(signal.SIGTERM)
        t.ends(128 + signal.SIGTERM)
    cli("kill", "--tree", "web", process)
    with Terminal(cli, "exec", "-it", "-e", "Q=1", "web", "sh", "-c", "echo q-$Q; test -t 0 && echo tty; exit 4") as t:
        t.shows("q-1")
        t.shows("tty")
        t.ends(4)


def test_a_shell_that_is_sent_away_says_why(make_daemon):
    cli = Cli(make_daemon(SANDBOXD_TERMINAL_IDLE="1s"), token=None)
    cli("create", "--name", "web")
    with Terminal(cli, "shell", "web", cols=120) as t:
        t.shows("nothing was typed or shown for a long time")
        t.shows("--attach")
        t.ends(125)
    cli("purge", "web")


def test_shell_needs_a_terminal_and_a_sandbox(cli, box):
    assert "no terminal" in cli.err("shell", "web", status=125, input=b"")
    for option in (["-e", "A=b"], ["-w", "/tmp"]):
        assert "need a command" in cli.err("shell", *option, "web", status=2, input=b"")
    with Terminal(cli, "shell", "frob") as t:
        t.shows("no sandbox answers to frob")
        t.ends(125)
    with Terminal(cli, "shell", "web", "--attach", "0" * 26) as t:
        t.shows("no process")
        t.ends(125)


def test_progress_is_for_terminals(cli, box):
    with Terminal(cli, "cp", "-", "web:typed") as t:
        def typed():
            t.type("x\n")
            t.pump()
            return any("copying: " in row for row in t.screen.display)
        until(typed, 30, "a line of progress", every_s=0.1)
        t.type("\x04")
        t.ends(0)
    assert set(cli("files", "cat", "web:typed").stdout) == set(b"x\n")


# --- the rest ---


def test_errors_say_what_to_do(cli, box, tmp_path):
    other = Cli(cli.daemon, token=None)
    assert "SANDBOXD_TOKEN" in other.err("ls", status=1)
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert box in other.out("ls", "-q", "--token-file", tmp_path / "token")
    assert box not in Cli(cli.daemon, token="secret-of-bob-0123456789").out("ls", "-q")
    assert "no sandbox" in Cli(cli.daemon, token="secret-of-bob-0123456789").err("show", box, status=1)
    text = cli.err("ls", "--url", f"http://127.0.0.1:{sandboxd.free_port()}", status=1)
    assert "127.0.0.1" in text and "remedy" in text and "SANDBOXD_URL" in text
    assert "no URL" in cli.err("ls", "--url", "ftp://x", status=1)
    for wrong in [("ls", "--frob"), ("exec", "web"), ("frob",), ("ls", "-o", "xml"), ("create", "-p", "x"),
                  ("create", "-e", "x"), ("files",), ("completion", "fish"), ("logs", "web", "x", "--since", "1")]:
        assert "--help" in cli.err(*wrong, status=2), wrong
    for right in [("--help",), ("exec", "--help"), ("help",), ("help", "files"), ("help", "files", "ls")]:
        assert "sandboxd" in cli.out(*right), right
    # A full disk is no success.
    cli("cp", "-", "web:some", input=b"x")
    for args in [["ls"], ["files", "cat", "web:some"], ["cp", "web:some", "-"]]:
        with open("/dev/full", "w") as full:
            assert subprocess.run([BINARY, *args], env=cli.env, stdout=full, stderr=subprocess.PIPE).returncode == 1, args
    # The daemon's own settings are not disturbed by the client's.
    env = {**cli.daemon.env, "SANDBOXD_URL": "http://x", "SANDBOXD_TOKEN": "y", "PATH": "/usr/bin:/bin"}
    assert b"SANDBOXD_URL" not in subprocess.run([BINARY, "doctor"], env=env, capture_output=True).stdout


def test_completion_in_bash(cli, box, tmp_path):
    (tmp_path / "sandboxd").symlink_to(BINARY)
    (tmp_path / "localfile").touch()
    cli("cp", "-", "web:compl/some.txt", input=b"x")
    script = cli.out("completion", "bash")

    def complete(*words, first=""):
        line = f"{script}\n{first}\nCOMP_WORDS=({' '.join(map(repr, words))})\nCOMP_CWORD={len(words) - 1}\n_sandboxd 2>/dev/null\n" \
               'printf "%s\\n" "${COMPREPLY[@]}"'
        run = subprocess.run(["bash", "--norc", "-c", line], env=cli.env | {"PATH": f"{tmp_path}:/usr/bin:/bin"}, cwd=tmp_path,
                             capture_output=True, text=True, timeout=60)
        return run.stdout.split()

    assert complete("sandboxd", "sh") == ["show", "shell"]
    assert "web" in complete("sandboxd", "exec", "we") and box in complete("sandboxd", "show", box[:8])
    assert complete("sandboxd", "exec", "--time") == ["--timeout"]
    assert "grep" in complete("sandboxd", "files", "")
    assert complete("sandboxd", "ls", "-s", "stopp") == ["stopping", "stopped"]
    assert complete("sandboxd", "ls", "-o", "") == ["json", "table"]
    assert complete("sandboxd", "files", "cat", "web:compl/so") == ["web:compl/some.txt"]
    assert complete("sandboxd", "cp", "local") == ["localfile"]
    # As typed: bash takes words apart at colons, and only what follows the last one is replaced.
    split = "COMP_LINE='sandboxd files cat web:compl/so'"
    assert complete("sandboxd", "files", "cat", "web", ":", "compl/so", first=split) == ["compl/some.txt"]
    assert complete("sandboxd", "kill", "we\\\\b", "", first="COMP_LINE='sandboxd kill we\\b '") == \
        complete("sandboxd", "kill", "web", "")
    # Names are the sandbox's: what one Tab puts on the line must not run here by the next Enter.
    cli("cp", "-", "web:evil/$(touch owned)", input=b"x")
    word = " ".join(complete("sandboxd", "files", "cat", "web:evil/"))
    subprocess.run(["bash", "--norc", "-c", f"true {word}"], cwd=tmp_path, check=True)
    assert "touch" in word and not (tmp_path / "owned").exists()
    process = cli.out("exec", "-d", "web", "sleep", "60").strip()
    assert process in complete("sandboxd", "kill", "web", "")
    cli("kill", "web", process)


def test_the_manual_page_is_clean(cli):
    if not shutil.which("groff"):
        pytest.skip("no groff")
    page = subprocess.run([BINARY, "--print-man"], capture_output=True, check=True).stdout
    run = subprocess.run(["groff", "-ww", "-z", "-man", "-Tutf8"], input=page, capture_output=True)
    assert run.returncode == 0 and run.stderr == b"", run.stderr
