"""Processes that are services from the start ("service" of POST …/processes), and when a service
is ready."""
import pytest

from sandboxd import Sandbox, until

pytestmark = pytest.mark.concurrent

# Answers 503 until the file /tmp/well is there; hangs while /tmp/hangs is, and makes /tmp/asked.
APP = r"""
import http.server, os, sys, time
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while os.path.exists("/tmp/hangs"):
            open("/tmp/asked", "w")
            time.sleep(0.05)
        self.send_response(204 if os.path.exists("/tmp/well") and self.path == "/up?x=1" else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
"""


@pytest.fixture(scope="module")
def box(_shared):
    box = Sandbox.create(_shared)
    box.exec("mkdir -p ~/workspace/app")
    yield box
    box.purge(expect=(204, 404))


def start(box, cmd, expect=201, **service):
    return box.client.post(box.v1 + "/processes", {"cmd": cmd, "service": service},
                           expect=expect).json()


def service(box, name):
    found = box.client.get(box.v1 + "/services", expect=200).json()["services"]
    return next(s for s in found if s["name"] == name)


def is_ready(box, name, seconds=20):
    return until(lambda: (s := service(box, name))["ready"] and s, seconds, f"{name} is ready")


def stays_unready(box, name, sight):
    """Not ready while something that comes later than a look can be seen to have come."""
    until(sight, 20)
    assert not service(box, name)["ready"]


@pytest.mark.quick
def test_a_process_that_is_a_service(box):
    p = start(box, ["sleep", "600"], name="idler", restart="on-failure")
    assert p["service"] == "idler" and p["status"] == "running"
    s = is_ready(box, "idler") # nothing was asked for: running is ready
    assert s["restart"] == "on-failure" and s["process"] == p["id"] and s["port"] is None
    box.client.post(f"{box.v1}/processes/{p['id']}/signal", {"signal": "KILL"}, expect=202)
    until(lambda: (s := service(box, "idler"))["status"] == "running" and s["process"] != p["id"],
          20, "it comes back")
    assert start(box, "exec sleep 601")["service"] == "sleep", "named after its program"


def test_ready_by_a_line_of_its_output(box):
    p = start(box, ["bash", "-c", "echo warming; while [ ! -e /tmp/go ]; do sleep 0.05; done; "
                    "echo -n now ser; echo ving on 7; sleep 600"], name="by-log", ready={"log": "now serving on"})
    out = f"{box.v1}/processes/{p['id']}/output"
    stays_unready(box, "by-log", lambda: b"warming" in box.client.get(out).body)
    box.exec("touch /tmp/go")
    is_ready(box, "by-log")
    box.daemon.restart()
    is_ready(box, "by-log") # it is looked for in what was kept


def test_ready_by_its_port_and_its_answer(box):
    box.exec("rm -f /tmp/well /tmp/hangs /tmp/asked")
    start(box, ["python3", "-c", APP, "3111"], name="by-port", ready={"port": 3111})
    assert is_ready(box, "by-port")["listening"]
    start(box, ["python3", "-c", APP, "3112"], name="by-answer",
          ready={"port": 3112, "health_path": "/up?x=1"})
    stays_unready(box, "by-answer", lambda: service(box, "by-answer")["listening"])
    box.exec("touch /tmp/hangs") # first, lest a look that is past it finds it well
    stays_unready(box, "by-answer", lambda: box.exec("test -e /tmp/asked")["exit_code"] == 0)
    box.exec("touch /tmp/well; rm /tmp/asked")
    stays_unready(box, "by-answer", lambda: box.exec("test -e /tmp/asked")["exit_code"] == 0)
    box.exec("rm /tmp/hangs")
    is_ready(box, "by-answer")
    box.client.post(f"{box.v1}/services/by-answer/stop", expect=200)
    assert not service(box, "by-answer")["ready"]


@pytest.mark.parametrize("fields, word", [
    ({"service": {"ready": {"health_path": "/"}}}, "service.ready.health_path: needs"),
    ({"service": {"ready": {"health_path": "x", "port": 1}}}, "service.ready.health_path: must"),
    ({"service": {"ready": {"log": "a\nb"}}}, "service.ready.log: must"),
    ({"service": {"ready": {"port": 0}}}, "port"),
    ({"service": {"ready": {"tcp": 1}}}, "tcp"),
    ({"service": {"restart": "sometimes"}}, "restart"),
    ({"service": {"name": "Not A Name"}}, "service.name: has"),
    ({"service": True}, "service"),
    ({"service": {}, "stdin": True}, "stdin"),
    ({"service": {}, "timeout_ms": 5}, "timeout_ms"),
    ({"service": {}, "pty": {"cols": 80, "rows": 24}}, "pty"),
    ({"service": {}, "on_disconnect": "kill"}, "on_disconnect"),
    ({"on_disconnect": "maybe"}, "on_disconnect"),
])
def test_what_does_not_go_together(box, fields, word):
    r = box.client.post(box.v1 + "/processes", {"cmd": ["sleep", "9"], **fields}, expect=400)
    assert word in r.text
