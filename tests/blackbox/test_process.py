"""The process itself: command line, settings, signals, second daemons, modes of files, doctor."""
import os
import pathlib
import re
import signal
import stat
import subprocess
import threading

import pytest

import sandboxd
from sandboxd import PATIENCE, SLOW, Daemon, until

pytestmark = pytest.mark.quick


def run(*args, env=None, timeout=60):
    return subprocess.run([sandboxd.BINARY, *args], env={"PATH": os.environ["PATH"], **(env or {})},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout * SLOW, check=False)


OFF = {"SANDBOXD_API_AUTH_DISABLED": "true"}


@pytest.mark.parametrize("args, word", [
    ((), "command is missing"),
    (("bogus",), "bogus"),
    (("serve", "--bogus"), "--bogus"),
    (("serve", "extra"), "extra"),
    (("serve", "--env-file"), "--env-file"),
    (("serve", "--markdown"), "--markdown"),
    (("doctor", "--markdown"), "--markdown"),
    (("--print-states", "--env-file=x"), "--env-file=x"),
])
def test_wrong_usage_is_one_line_and_2(args, word):
    r = run(*args)
    assert r.returncode == 2 and r.stdout == ""
    assert word in r.stderr and r.stderr.count("\n") == 1


@pytest.mark.parametrize("env, knob", [
    ({}, "SANDBOXD_API_TOKENS"),
    ({"SANDBOXD_API_TOKENS": "a:short"}, "SANDBOXD_API_TOKENS"),
    ({**OFF, "SANDBOXED_API_BIND": "0.0.0.0:9090"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({**OFF, "PREVIEW_DOMAIN": "example.com"}, "SANDBOXD_API_AUTH_DISABLED"),
    ({**OFF, "SANDBOXD_PIDS": "5"}, "SANDBOXD_PIDS"),
    ({**OFF, "SANDBOXD_STOP_GRACE": "soon"}, "SANDBOXD_STOP_GRACE"),
    ({**OFF, "DOCKER_HOST": "tcp://127.0.0.1:2375"}, "DOCKER_HOST"),
    ({**OFF, "SANDBOXD_ADDR": "127.0.0.1:1", "SANDBOXED_API_BIND": "127.0.0.1:2"},
     "SANDBOXD_ADDR"),
])
def test_wrong_settings_are_one_line_that_names_the_knob(env, knob, tmp_path):
    r = run("serve", env={"SANDBOXED_DATA_DIR": str(tmp_path / "d"), **env})
    assert r.returncode == 2 and r.stdout == ""
    assert knob in r.stderr and r.stderr.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_a_secret_is_not_repeated_in_an_error(tmp_path):
    file = tmp_path / "env"
    file.write_text("SANDBOXD_API_TOKENS=a:very-secret-1,b:very-secret-1\n")
    r = run("serve", "--env-file", str(file))
    assert r.returncode == 2 and "very-secret" not in r.stderr


def test_print_and_version():
    assert re.fullmatch(r"sandboxd \d+\.\d+\.\d+\n", run("--version").stdout)
    assert "serve" in run("--help").stdout
    assert "#SANDBOXED_API_BIND=127.0.0.1:9090\n" in run("--print-env").stdout
    assert "| `SANDBOXED_API_BIND`" in run("--print-env", "--markdown").stdout
    assert "/v1/sandboxes/{id}" in run("--print-routes").stdout
    assert "CREATING --> RUNNING" in run("--print-states").stdout


def test_a_full_standard_output_is_noticed():
    with open("/dev/full", "w") as full:
        r = subprocess.run([sandboxd.BINARY, "--print-env"], stdout=full, stderr=subprocess.PIPE,
                           check=False)
    assert r.returncode == 1


@pytest.fixture
def own(make_daemon):
    return make_daemon()


def test_env_file_serves(make_daemon, tmp_path):
    file = tmp_path / "settings"
    file.write_text('# by hand\r\nexport SANDBOXD_PIDS="77"\r\n')
    d = make_daemon()
    d.stop()
    with open(d.log_path, "ab") as log:
        d.process = subprocess.Popen([d.binary, "serve", f"--env-file={file}"], env=d.env,
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    d.wait_ready()
    box = d.post("/v1/sandboxes", {"limits": {}}, expect=201).json()
    assert box["limits"]["pids"] == 77


def test_second_daemon_is_refused_and_harmless(own):
    box = own.post("/sandbox", {}, expect=201).json()["id"]
    began = sandboxd.process_began(own.process.pid)
    r = run("serve", env=own.env)
    assert r.returncode == 1 and "another sandboxd" in r.stderr and "remedy" in r.stderr
    assert own.running() and sandboxd.process_began(own.process.pid) == began
    assert own.post(f"/sandbox/{box}/exec", {"cmd": ["true"]}, expect=200).json()["exit_code"] == 0


def test_port_in_use_is_1_with_a_remedy(own, make_daemon):
    other = Daemon(SANDBOXED_API_BIND=f"127.0.0.1:{own.port}")
    try:
        r = run("serve", env=other.env)
        assert r.returncode == 1 and str(own.port) in r.stderr and "remedy" in r.stderr
    finally:
        other.close()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_term_ends_with_0_and_sandboxes_stay(own, name):
    box = own.post("/sandbox", {}, expect=201).json()["id"]
    container = own.container(box)
    own.expect_exit = True
    own.process.send_signal(getattr(signal, name))
    assert own.process.wait(30 * SLOW) == 0
    assert sandboxd.Engine().inspect(container)["State"]["Running"]
    own.start()
    assert own.container(box) == container
    assert own.post(f"/sandbox/{box}/exec", {"cmd": ["true"]}, expect=200).json()["exit_code"] == 0


def test_requests_under_way_end_first(own):
    box = own.post("/sandbox", {}, expect=201).json()["id"]
    got = []
    t = threading.Thread(target=lambda: got.append(own.client().post(
        f"/sandbox/{box}/exec", {"cmd": ["sh", "-c", "touch /tmp/began; sleep 2; echo done"]})))
    t.start()
    until(lambda: own.post(f"/sandbox/{box}/exec",
                           {"cmd": ["test", "-e", "/tmp/began"]}).json()["exit_code"] == 0)
    assert own.stop() == 0
    t.join()
    assert got[0].status == 200 and got[0].json()["stdout"] == "done\n"


def test_second_term_ends_at_once(own):
    box = own.post("/sandbox", {}, expect=201).json()["id"]
    stream = own.client().stream("POST", f"/sandbox/{box}/exec",
                                 {"cmd": ["sh", "-c", "echo on; sleep 600"]},
                                 headers={"Accept": "text/event-stream"})
    with stream:
        assert next(stream.sse())[0] == "started"
        own.expect_exit = True
        own.process.send_signal(signal.SIGTERM)
        until(lambda: "server.stopping" in own.log())
        own.process.send_signal(signal.SIGTERM)
        assert own.process.wait(3 * PATIENCE) != 0
    own.start()


def test_hup_and_pipe_change_nothing(own):
    own.process.send_signal(signal.SIGHUP)
    own.process.send_signal(signal.SIGPIPE)
    until(lambda: "server.hup_ignored" in own.log())
    own.get("/healthz", expect=200)
    assert own.running()


def test_closed_standard_descriptors_do_not_become_files(make_daemon):
    d = make_daemon()
    d.stop()
    d.process = subprocess.Popen(["sh", "-c", f'exec "{d.binary}" serve <&- >&- 2>&-'], env=d.env)
    d.wait_ready()
    for fd in (0, 1, 2):
        assert os.readlink(f"/proc/{d.process.pid}/fd/{fd}") == "/dev/null"


def test_modes(own):
    """T-81: nobody but the owner reaches what the daemon keeps."""
    own.post("/sandbox", {}, expect=201)
    data = pathlib.Path(own.data_dir)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for path in (data / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_tokens_leave_the_environment(make_daemon):
    d = make_daemon(SANDBOXD_API_AUTH_DISABLED=None, SANDBOXD_API_TOKENS="alice:wonder-land-77")
    environ = pathlib.Path(f"/proc/{d.process.pid}/environ").read_bytes()
    assert b"wonder" not in environ and b"SANDBOXED_DATA_DIR" in environ
    d.client("wonder-land-77").get("/sandboxes", expect=200)


# --- the firewall ---


def test_rules_come_back(own):
    table = ["nft", "list", "table", "inet", f"sandboxed_{own.instance}"]
    before = subprocess.run(table, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["nft", "delete", "table", "inet", f"sandboxed_{own.instance}"], check=True)
    until(lambda: "firewall.restored" in own.log(), deadline_s=8)
    assert subprocess.run(table, stdout=subprocess.PIPE, check=True).stdout == before


# --- doctor ---


def faults(r):
    return [line for line in r.stdout.splitlines() if line.startswith("FAIL")]


def test_doctor_beside_a_running_daemon(own):
    r = run("doctor", env=own.env)
    assert r.returncode == 0 and not faults(r), r.stdout
    for word in ("settings", "engine", "image", "sqlite", "T-82", "openat2", "cgroup", "volumes",
                 "firewall", "descriptors", "free space", "a sandboxd answers there"):
        assert word in r.stdout, word
    assert subprocess.run(["nft", "list", "tables"], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.count("sbxdoctor") == 0
    own.get("/readyz", expect=200)


def test_doctor_changes_nothing(tmp_path):
    r = run("doctor", env={**OFF, "SANDBOXED_DATA_DIR": str(tmp_path / "no" / "where"),
                           "SANDBOXD_IMAGE": sandboxd.IMAGE,
                           "SANDBOXED_API_BIND": f"127.0.0.1:{sandboxd.free_port()}",
                           "SANDBOXED_EDGE_BIND": f"127.0.0.1:{sandboxd.free_port()}"})
    assert r.returncode == 0, r.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("env, word", [
    ({"SANDBOXD_PIDS": "5"}, "SANDBOXD_PIDS"),
    ({"DOCKER_HOST": "unix:///no/such.sock"}, "engine"),
    ({"SANDBOXD_IMAGE": "no-such-image:1"}, "image"),
    ({"SANDBOXED_DATA_DIR": "/dev/null"}, "data directory"),
    ({"SANDBOXD_NETWORK": "no-such-network", "SANDBOXD_FIREWALL": "false"}, "network"),
])
def test_doctor_names_the_fault_and_the_remedy(env, word, tmp_path):
    good = {**OFF, "SANDBOXED_DATA_DIR": str(tmp_path), "SANDBOXD_IMAGE": sandboxd.IMAGE,
            "SANDBOXED_API_BIND": f"127.0.0.1:{sandboxd.free_port()}",
            "SANDBOXED_EDGE_BIND": f"127.0.0.1:{sandboxd.free_port()}"}
    r = run("doctor", env={**good, **env})
    assert r.returncode == 1
    assert len(faults(r)) == 1 and word in faults(r)[0], r.stdout
    lines = r.stdout.splitlines()
    assert lines[lines.index(faults(r)[0]) + 1].strip().startswith("remedy: ")


def test_doctor_sees_a_foreign_port(tmp_path):
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        r = run("doctor", env={**OFF, "SANDBOXED_DATA_DIR": str(tmp_path),
                               "SANDBOXD_IMAGE": sandboxd.IMAGE,
                               "SANDBOXED_API_BIND": f"127.0.0.1:{s.getsockname()[1]}",
                               "SANDBOXED_EDGE_BIND": f"127.0.0.1:{sandboxd.free_port()}"})
    assert r.returncode == 1 and "API port" in faults(r)[0]
