"""The command line, the settings, and what stops a start: exit status and words."""

import hashlib
import os
import pathlib
import re
import socket
import sqlite3
import subprocess

import pytest

from sandboxd import BINARY, IMAGE, IMAGE_MUSL, PATIENCE, ROOT, SLOW, Sandbox, free_port, until

pytestmark = pytest.mark.quick


def run(*args, **env):
    """One run of the program to its end, with these settings alone."""
    keep = {k: v for k, v in os.environ.items() if k == "PATH" or k.endswith("SAN_OPTIONS")}
    return subprocess.run([BINARY, *args], env=keep | env, capture_output=True, text=True,
                          timeout=30 * SLOW, cwd="/", stdin=subprocess.DEVNULL, check=False)


def refused(result, *words):
    """One line that says what is wrong, and exit status 2."""
    assert result.returncode == 2, result
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1, result
    assert result.stderr.startswith("sandboxd: ") and result.stderr.endswith("\n")
    for word in words:
        assert word in result.stderr, result.stderr


def test_help_and_version():
    got = run("--help")
    assert (got.returncode, got.stderr) == (0, "")
    for word in "serve", "doctor", "--env-file", "--version", "--print-env", "--print-routes":
        assert word in got.stdout
    got = run("--version")
    assert got.returncode == 0 and re.fullmatch(r"sandboxd \d+\.\d+\.\d+\S*\n", got.stdout)


@pytest.mark.parametrize("args, word", [
    ((), "command"), (("nope",), "nope"), (("serve", "--nope"), "--nope"),
    (("serve", "--env-file"), "--env-file"), (("doctor", "x"), "x"), (("--help", "x"), "x"),
    (("--print-env", "--env-file=x"), "--env-file=x"), (("",), "command"),
])
def test_wrong_usage(args, word):
    refused(run(*args), word, "--help")


def knobs():
    """Rows of the settings' table as (name, alias, default)."""
    text = (ROOT / "include/config/config.def").read_text()
    return re.findall(r'^CFG\("(\w+)", "(\w*)", \w+, \w+, "([^"]*)"', text, re.M)


def test_print_env_lists_every_setting_and_can_be_read_back(tmp_path):
    got = run("--print-env")
    assert got.returncode == 0 and knobs()
    assert re.findall(r"^#(\w+)=(.*)$", got.stdout, re.M) == [(n, d) for n, _, d in knobs()]
    for _, alias, _ in knobs():
        assert alias in got.stdout
    file = tmp_path / "all.env"
    file.write_text(re.sub(r"^#(?=\w+=)", "", got.stdout, flags=re.M))
    # Read whole, and refused for the one thing that the defaults leave open: tokens.
    refused(run("serve", "--env-file", str(file)), "SANDBOXD_API_TOKENS")
    table = run("--print-env", "--markdown").stdout
    for name, _, _ in knobs():
        assert f"| `{name}`" in table


def test_print_routes():
    got = run("--print-routes")
    rows = re.findall(r"^([A-Z]+) +(/\S*) +(\d{3})  \S", got.stdout, re.M)
    assert got.returncode == 0 and len(rows) == len(got.stdout.splitlines())
    for row in ("POST", "/sandbox", "201"), ("GET", "/v1/sandboxes/{id}/files/content", "200"), (
            "DELETE", "/v1/sandboxes/{id}", "204"):
        assert row in rows
    assert run("--print-routes", "--markdown").stdout.count("\n| ") >= len(rows)


WRONG = [
    ("SANDBOXED_API_BIND", "nope"), ("SANDBOXED_API_BIND", "127.0.0.1"),
    ("SANDBOXED_API_BIND", "127.0.0.1:99999"), ("SANDBOXED_API_BIND", "example.com:80"),
    ("SANDBOXD_ADDR", "nope"), ("SANDBOXED_EDGE_BIND", "127.0.0.1:x"),
    ("SANDBOXED_DATA_DIR", "relative/dir"), ("SANDBOXED_DATA_DIR", "/tmp/../etc"),
    ("SANDBOXED_DATA_DIR", "/" + "x" * 5000), ("SANDBOXED_DATA_DIR", "/"),
    ("DOCKER_HOST", "tcp://127.0.0.1:2375"), ("DOCKER_HOST", "/var/run/docker.sock"),
    ("SANDBOXD_IMAGE", "UPPER CASE"), ("SANDBOXD_IMAGE", "-rm"), ("SANDBOXD_IMAGES", "ok,not ok"),
    ("SANDBOXD_NETWORK", "a b"), ("SANDBOXD_NETWORK", "other"), ("SANDBOXD_FIREWALL", "maybe"),
    ("PREVIEW_DOMAIN", "not a domain"), ("PREVIEW_DOMAIN", "a:80"),
    ("SANDBOXD_API_AUTH_DISABLED", "perhaps"),
    ("SANDBOXD_API_TOKENS", "nosecret"), ("SANDBOXD_API_TOKENS", "a:"),
    ("SANDBOXD_API_TOKENS", ":secret-one"), ("SANDBOXD_API_TOKENS", "a:same-secret,b:same-secret"),
    ("SANDBOXD_API_HOSTS", "a b"), ("SANDBOXD_API_ORIGINS", "nope"),
    ("SANDBOXD_MEMORY_MIB", "63"), ("SANDBOXD_MEMORY_MIB", "-1"), ("SANDBOXD_MEMORY_MIB", "1g"),
    ("SANDBOXD_MEMORY_MIB", "99999999999999999999"), ("SANDBOXD_MEMORY_MIB", "16385"),
    ("SANDBOXD_CPUS_MILLI", "0"), ("SANDBOXD_PIDS", "15"), ("SANDBOXD_PIDS", "0x40"),
    ("SANDBOXD_DISK_MIB", " "), ("SANDBOXD_NOFILE", "255"),
    ("SANDBOXD_SANDBOXES_MAX", "0"), ("SANDBOXD_STOP_GRACE", "5x"),
    ("SANDBOXD_STOP_GRACE", "99h"), ("SANDBOXD_KEEPALIVE_MAX", "soon"),
    ("SANDBOXD_SWEEP_INTERVAL", "1ms"), ("SANDBOXD_SHUTDOWN_GRACE", "-1s"),
    ("SANDBOXD_LOG_LEVEL", "loud"), ("SANDBOXD_LOG_LEVEL", "info\x1b[0m"),
]


@pytest.mark.parametrize("knob, value", WRONG, ids=[f"{k}={v[:20]!r}" for k, v in WRONG])
def test_a_wrong_setting_is_one_line_that_names_it(tmp_path, knob, value):
    data = tmp_path / "data"
    env = {"SANDBOXED_DATA_DIR": str(data), "SANDBOXD_API_AUTH_DISABLED": "true"}
    if knob == "SANDBOXD_API_TOKENS":
        del env["SANDBOXD_API_AUTH_DISABLED"]
    got = run("serve", **(env | {knob: value}))
    names = {"SANDBOXD_ADDR": "SANDBOXED_API_BIND"}
    refused(got, names.get(knob, knob))
    assert not data.exists(), "nothing is touched before the settings are known to be right"
    assert all(c.isprintable() for c in got.stderr.strip()), "no control byte is echoed"
    file = tmp_path / "env"
    if value.isprintable():
        file.write_text("".join(f"{k}={v}\n" for k, v in (env | {knob: f'"{value}"'}).items()))
        refused(run("serve", "--env-file", str(file)), names.get(knob, knob))


def test_secrets_of_a_wrong_setting_are_not_printed():
    got = run("serve", SANDBOXD_API_TOKENS="name:hush-hush-1,name2:hush-hush-1")
    assert got.returncode == 2 and "hush" not in got.stderr


@pytest.mark.parametrize("env, knob", [
    ({"SANDBOXED_API_BIND": "0.0.0.0:9090"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({"SANDBOXED_API_BIND": "[::]:9090"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({"SANDBOXED_API_BIND": ":9090"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({"SANDBOXED_API_BIND": "10.1.2.3:9090"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({"PREVIEW_DOMAIN": "example.com"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({"PREVIEW_DOMAIN": "localhost.example.com"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({"PREVIEW_DOMAIN": "notlocalhost"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({"SANDBOXD_API_AUTH_DISABLED": "false"}, "SANDBOXD_API_TOKENS"),
    ({"SANDBOXED_API_BIND": "127.0.0.1:1", "SANDBOXD_ADDR": "127.0.0.1:2"}, "SANDBOXD_ADDR"),
])
def test_no_open_door_without_tokens(tmp_path, env, knob):
    base = {"SANDBOXD_API_AUTH_DISABLED": "true", "SANDBOXED_DATA_DIR": str(tmp_path / "d")}
    refused(run("serve", **(base | env)), knob)
    assert not (tmp_path / "d").exists()


def test_env_file_faults(tmp_path):
    refused(run("serve", "--env-file", str(tmp_path / "missing")), "missing")
    for text, word in [("SANDBOXD_PIDZ=1\n", "SANDBOXD_PIDZ"), ("no equals sign\n", ":1"),
                       ("A=b\n\n# c\n=x\n", ":4")]:
        file = tmp_path / "env"
        file.write_text(text)
        refused(run("serve", "--env-file", str(file)), word)


def test_the_environment_wins_over_the_file(make_daemon, tmp_path):
    d = make_daemon(start=False, SANDBOXD_IMAGE=IMAGE_MUSL, SANDBOXD_PIDS=None)
    file = tmp_path / "env"
    file.write_text(f'# a comment\nexport_ignored=1\nSANDBOXD_IMAGE={IMAGE}\nSANDBOXD_PIDS="77"\n'
                    "OTHER_PROGRAM='s setting'\n")
    log = open(d.log_path, "ab")
    d.process = subprocess.Popen([d.binary, "serve", "--env-file", str(file)], env=d.env, cwd="/",
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    log.close()
    d.wait_ready()
    box = Sandbox.create(d)
    assert (box.created["image"], box.created["limits"]["pids"]) == (IMAGE_MUSL, 77)


# --- doctor ---


def doctor_env(tmp_path, **more):
    return {"SANDBOXED_DATA_DIR": str(tmp_path / "data"), "SANDBOXD_API_AUTH_DISABLED": "true",
            "SANDBOXD_IMAGE": IMAGE, "SANDBOXED_API_BIND": f"127.0.0.1:{free_port()}",
            "SANDBOXED_EDGE_BIND": f"127.0.0.1:{free_port()}"} | more


def test_doctor_on_a_sound_machine(engine, tmp_path):
    got = run("doctor", **doctor_env(tmp_path))
    assert got.returncode == 0, got.stdout + got.stderr
    assert engine.call("GET", "/version").json()["Version"] in got.stdout
    assert IMAGE in got.stdout and "FAIL" not in got.stdout
    low = got.stdout.lower()
    for word in "sqlite", "openat2", "firewall", "engine", "reflink", "wal":
        assert word in low, word
    assert re.search(r"sqlite.*3\.\d+\.\d+", low)


@pytest.mark.parametrize("more, what", [
    ({"DOCKER_HOST": "unix:///nowhere/docker.sock"}, "engine"),
    ({"SANDBOXD_IMAGE": "sandboxed-test-missing:1"}, "image"),
])
def test_doctor_names_each_fault_with_a_remedy(tmp_path, more, what):
    got = run("doctor", **doctor_env(tmp_path, **more))
    assert got.returncode == 1
    lines = got.stdout.splitlines()
    faults = [i for i, line in enumerate(lines) if line.startswith("FAIL")]
    assert [i for i in faults if what in lines[i]]
    for i in faults:
        assert "remedy:" in lines[i + 1], lines[i]


def test_doctor_with_wrong_settings(tmp_path):
    got = run("doctor", **doctor_env(tmp_path, SANDBOXD_PIDS="1"))
    assert got.returncode in (1, 2) and "SANDBOXD_PIDS" in got.stdout + got.stderr


def test_doctor_does_not_disturb_a_running_daemon(daemon):
    env = {k: v for k, v in daemon.env.items() if k != "PATH" and not k.endswith("SAN_OPTIONS")}
    got = run("doctor", **env)
    assert got.returncode == 0, got.stdout
    assert daemon.get("/readyz").status == 200
    firewall = subprocess.run(["nft", "list", "table", "inet", f"sandboxed_{daemon.instance}"],
                              capture_output=True, check=False)
    assert firewall.returncode == 0


# --- what stops a start ---


def start_fails(d, *words):
    """Spawns it, expects exit 1 and the words on stderr; returns the text."""
    before = len(d.log())
    d.spawn()
    d.expect_exit = True
    assert d.process.wait(20 * PATIENCE) == 1, d.log_tail()
    text = d.log()[before:]
    for word in words:
        assert word in text, text
    return text


def test_a_second_daemon_on_the_same_directory_is_refused(daemon, make_daemon, make_sandbox):
    box = make_sandbox()
    second = make_daemon(start=False, SANDBOXED_DATA_DIR=daemon.data_dir)
    text = start_fails(second, daemon.data_dir)
    assert "another sandboxd" in text
    # The first one was not disturbed in any way.
    assert daemon.get("/readyz").status == 200
    assert box.exec("echo here")["stdout"] == "here\n" and box.status == "running"
    firewall = subprocess.run(["nft", "list", "table", "inet", f"sandboxed_{daemon.instance}"],
                              capture_output=True, check=False)
    assert firewall.returncode == 0
    second.data_dir = second.dir + "/data"  # what its fixture cleans is its own


def test_a_taken_port_is_said_clearly(make_daemon):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        d = make_daemon(start=False, SANDBOXED_API_BIND=f"127.0.0.1:{port}")
        text = start_fails(d, f"127.0.0.1:{port}")
        assert "in use" in text.lower()


def hashes(directory):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in pathlib.Path(directory).iterdir() if p.is_file()}


def test_a_newer_schema_is_refused_untouched(make_daemon):
    d = make_daemon()
    box = Sandbox.create(d)
    d.stop()
    db = f"{d.data_dir}/state/sandboxd.db"
    with sqlite3.connect(db) as con:
        con.execute("INSERT INTO migration VALUES (9999, 'from the future', 0)")
        con.execute("PRAGMA user_version = 9999")
        con.commit()
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    con.close()
    state = f"{d.data_dir}/state"
    before = hashes(state)
    text = start_fails(d, "newer")
    assert "remedy" in text
    after = hashes(state)
    assert {k: v for k, v in after.items() if k in before} == before
    assert set(after) - set(before) <= {"lock", "sandboxd.lock"}, "no file is left beside it"
    with sqlite3.connect(db) as con:
        con.execute("DELETE FROM migration WHERE number = 9999")
        number = con.execute("SELECT max(number) FROM migration").fetchone()[0]
        con.execute(f"PRAGMA user_version = {number}")
    con.close()
    d.start()
    assert box.exec("echo back")["stdout"] == "back\n"


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated"])
def test_a_damaged_database_is_refused_and_kept(make_daemon, damage):
    d = make_daemon()
    d.post("/v1/sandboxes", {"limits": {"memory_mib": 64}}).expect(201)
    d.purge_all()
    d.stop()
    db = pathlib.Path(d.data_dir, "state/sandboxd.db")
    whole = db.read_bytes()
    data = {"garbage": os.urandom(len(whole)), "empty": b"",
            "truncated": whole[:len(whole) // 2 + 100]}[damage]
    for extra in "-wal", "-shm":
        db.with_name(db.name + extra).unlink(missing_ok=True)
    db.write_bytes(data)
    d.spawn()
    d.expect_exit = True

    def outcome():
        if d.process.poll() is not None:
            return True
        try:
            return d.get("/readyz").status == 200
        except OSError:
            return False

    until(outcome, 20, "it starts or refuses")
    if damage == "empty" and d.process.poll() is None:
        d.stop()  # an empty file is a new database
    else:
        assert d.process.wait() == 1, d.log_tail()
        assert db.read_bytes() == data, "the original bytes are kept"
    db.write_bytes(whole)


def test_data_directory_that_cannot_be_used(make_daemon):
    d = make_daemon(start=False, SANDBOXED_DATA_DIR="/proc/nowhere")
    start_fails(d, "/proc/nowhere")
    d = make_daemon(start=False)
    pathlib.Path(d.data_dir).write_text("a file")
    start_fails(d, d.data_dir)
    pathlib.Path(d.data_dir).unlink()


def test_start_is_quick_and_never_deaf(make_daemon):
    """Listening before the comparison with the Engine is done; /readyz tells."""
    d = make_daemon()
    # It answers before it says so.
    line = until(lambda: re.search(r'"server\.listening".*"took_ms":(\d+)', d.log()), 5, "its line")
    took = int(line.group(1))
    assert took < 1000 * PATIENCE
