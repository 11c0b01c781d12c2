"""install.sh and uninstall.sh for real, in a copy of the tree, with names, ports and a directory of
their own beside whatever else this machine runs. The tests build on one another, in order.

What is built is kept under other names, so that the next run finds it: KEEP. SANDBOXED_FULL_IMAGE=1
builds the full sandbox image as well, which takes minutes of downloads."""
import fcntl
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

import sandboxd
from sandboxd import ROOT, free_port, until
from visitors import Visitors

HOME = pathlib.Path("/tmp/sandboxed-install-test")
TREE, DATA = HOME / "tree", HOME / "data"
PROJECT = "sandboxd-install-test"
BOX, DAEMON, TRAEFIK = (f"{PROJECT}-{what}:1" for what in ("box", "daemon", "traefik"))
BUILD, PREVIOUS = f"{PROJECT}-daemon:build", f"{PROJECT}-daemon:previous"
KEEP = {name: f"{PROJECT}-kept:{name.split(':')[0].removeprefix(PROJECT + '-')}-{name.split(':')[1]}"
        for name in (BOX, DAEMON, TRAEFIK, BUILD)}

pytestmark = pytest.mark.timeout(900) # cold: packages of the compiler, Node, Traefik


def run(*command, expect=0, **more):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **more)
    if expect is not None:
        assert done.returncode == expect, f"{command}: {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout


def docker(*arguments, **more):
    return run("docker", *arguments, **more).strip()


def image_there(name):
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True).returncode == 0


class Installation:
    def __init__(self):
        self.api, self.edge, self.http = free_port(), free_port(), free_port()
        self.token = None

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith(("SANDBOX", "PREVIEW", "COMPOSE", "HTTP_PORT"))}
        return env | {k: str(v) for k, v in {
            "COMPOSE_PROJECT_NAME": PROJECT, "SANDBOXED_DATA_DIR": DATA, "SANDBOXD_IMAGE": BOX,
            "DAEMON_IMAGE": DAEMON, "TRAEFIK_IMAGE": TRAEFIK, "HTTP_PORT": self.http,
            "SANDBOXED_API_BIND": f"127.0.0.1:{self.api}",
            "SANDBOXED_EDGE_BIND": f"127.0.0.1:{self.edge}", "READY_S": 30, **more}.items()}

    def install(self, *options, expect=0, **env):
        return run("./install.sh", "--slim", "-y", *options, cwd=TREE, expect=expect,
                   env=self.environment(**env))

    def uninstall(self, *options, expect=0):
        # Without a word in the environment: .env says all.
        env = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
        return run("./uninstall.sh", *options, cwd=TREE, expect=expect, env=env)

    def call(self, method, path, body=None, token=True):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}"} if token else {})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = reply.read()
                return reply.status, json.loads(text) if text else None
        except urllib.error.HTTPError as e:
            return e.code, None

    def page(self, sandbox, port=3000):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/",
            headers={"Host": f"s-{sandbox.lower()}-{port}.preview.localhost"})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()


def lists():
    """What a machine has that an installation could leave something in."""
    files = {str(TREE / name) for name in os.listdir(TREE)}
    for top in ("/etc", "/usr/local/bin", "/usr/local/lib/systemd", "/opt", "/var/lib", "/root"):
        for directory, below, names in os.walk(top):
            # The Engine's and the package manager's own; caches of whoever else works here.
            below[:] = [b for b in below if b not in ("docker", "containerd", "apt", "dpkg")
                        and not b.startswith(".")]
            files |= {os.path.join(directory, n) for n in names}
    return {
        "files": files,
        "containers": set(docker("ps", "-aq", "--no-trunc").split()),
        "images": set(docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()),
        "networks": set(docker("network", "ls", "-q", "--no-trunc").split()),
        "tables": set(run("nft", "list", "tables").splitlines()),
        "units": set(os.listdir("/etc/systemd/system")) if os.path.isdir("/etc/systemd") else set(),
    }


def forget_everything():
    """Of this run or of one that was killed."""
    if (TREE / "uninstall.sh").exists() and DATA.exists():
        run("./uninstall.sh", "--data", "-y", cwd=TREE, expect=None,
            env=os.environ | {"COMPOSE_PROJECT_NAME": PROJECT, "SANDBOXED_DATA_DIR": str(DATA),
                              "DAEMON_IMAGE": DAEMON})
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="module")
def inst():
    with open("/run/lock/sandboxed-install-test.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX) # one at a time, whichever clone it comes from
        forget_everything()
        TREE.mkdir(parents=True)
        names = run("git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
                    "--exclude-standard").split("\0")
        for name in filter(lambda n: n and (ROOT / n).is_file(), names):
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
        (TREE / ".env").unlink(missing_ok=True)
        run(str(ROOT / "scripts/base-image.sh"))
        for name, kept in KEEP.items():
            if image_there(kept):
                docker("tag", kept, name)
        try:
            yield Installation()
        finally:
            forget_everything()
            for name in (*KEEP, PREVIOUS):
                docker("rmi", name, expect=None)


@pytest.fixture(scope="module")
def before(inst):
    """The lists as they are before anything is installed. Traefik's image is one that others may use:
    when it is there, it stays there; what bears our name alone is to go."""
    found = lists()
    found["images"] -= {BOX, DAEMON, BUILD}
    return found


@pytest.fixture(scope="module")
def state():
    """What one test hands on to the next."""
    return {}


def container(service):
    return docker("ps", "-aq", "--no-trunc", "--filter", f"label=com.docker.compose.project={PROJECT}",
                  "--filter", f"label=com.docker.compose.service={service}")


def test_help_and_unknown_options(inst):
    for script in ("./install.sh", "./uninstall.sh"):
        assert "usage:" in run(script, "--help", cwd=TREE)
        assert "unknown option --bogus" in run(script, "--bogus", cwd=TREE, expect=1)


def test_a_taken_port_is_told_before_anything_changes(inst, before):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", inst.http))
        taken.listen()
        said = inst.install(expect=1)
    assert f"port {inst.http} is taken by" in said and "--http-port" in said
    assert f"pid {os.getpid()}" in said
    assert not DATA.exists() and not (TREE / ".env").exists()


def test_install_then_the_printed_commands(inst, before, state):
    state["link"] = os.path.lexists("/usr/local/bin/sandboxd")
    said = inst.install("--secure")
    assert (TREE / ".env").stat().st_mode & 0o777 == 0o600
    settings = (TREE / ".env").read_text()
    inst.token = re.search(r"^SANDBOXD_API_TOKENS=admin:([0-9a-f]{64})$", settings, re.M)[1]
    assert inst.token not in said, "a secret on the screen"
    assert DATA.stat().st_mode & 0o777 == 0o700
    for path in (DATA / "state").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert inst.call("GET", "/v1/sandboxes", token=False)[0] == 401
    assert inst.call("GET", "/v1/sandboxes") == (200, {"sandboxes": [], "next_cursor": None})

    commands = [line.strip() for line in said.splitlines() if line.startswith("  ") and
                re.match(r"  (TOKEN=|curl )", line)]
    assert [c.split()[0][:5] for c in commands] == ["TOKEN", "curl", "curl", "curl"], said
    state["id"] = re.search(r'"id":"([0-9A-Z]{26})"', commands[1])[1]
    for command in commands[1:3]:
        run("bash", "-ec", f"{commands[0]}\n{command} -sS --fail-with-body")
    until(lambda: inst.page(state["id"])[0] == 200, 20, "the page")
    assert "Directory listing" in run("bash", "-c", commands[3] + " -sS --fail-with-body")


def test_the_command_line_of_this_machine(inst, state):
    """It knows where the API is and its token, and reaches the files of this machine."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    command = TREE / "bin/sandboxd"
    assert f'"{state["id"]}"' in run(command, "ls", "-o", "json", env=env)
    (HOME / "note").write_text("from here")
    run(command, "cp", HOME / "note", state["id"] + ":note", env=env)
    assert run(command, "exec", state["id"], "--", "cat", "app/note", env=env) == "from here"
    assert "unauthorized" in run(command, "ls", env=env | {"SANDBOXD_TOKEN": "x" * 40}, expect=None)
    link = pathlib.Path("/usr/local/bin/sandboxd")
    assert link.exists() and (state["link"] or link.resolve() == command)


def test_what_runs_has_few_rights(inst):
    wanted = {"sandboxd": ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_NET_ADMIN",
                           "CAP_NET_BIND_SERVICE"],
              "traefik": ["CAP_NET_BIND_SERVICE"]}
    for service, capabilities in wanted.items():
        spec = json.loads(docker("inspect", container(service)))[0]
        host = spec["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert sorted("CAP_" + c.removeprefix("CAP_") for c in host["CapAdd"]) == capabilities
        assert host["ReadonlyRootfs"] and not host["Privileged"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["LogConfig"]["Config"]["max-size"]
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert inst.token not in json.dumps(spec)
        mounts = {m["Source"] for m in spec["Mounts"]}
        if service == "traefik":
            assert mounts == {str(DATA / "front"), str(DATA / "traefik")}
    until(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", container("sandboxd")) ==
          "healthy", 30, "the health check")


def test_again_changes_nothing(inst, state):
    was = container("sandboxd"), container("traefik"), (TREE / ".env").read_text()
    said = inst.install()
    assert "runs on" in said
    assert (container("sandboxd"), container("traefik"), (TREE / ".env").read_text()) == was
    said = inst.install(SANDBOXED_DATA_DIR=HOME / "other", expect=1)
    assert f"keeps its data in {DATA}" in said and not (HOME / "other").exists()
    assert (container("sandboxd"), container("traefik"), (TREE / ".env").read_text()) == was
    assert inst.page(state["id"])[0] == 200


def box_began(state):
    return docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", "s-" + state["id"].lower())


def test_upgrade_keeps_sandboxes_and_previews(inst, state):
    daemon, box = container("sandboxd"), box_began(state)
    with open(TREE / "deploy/Dockerfile", "a") as f:
        f.write("LABEL another=version\n")
    with open(TREE / ".env", "a") as f:
        f.write("SANDBOXD_REAP_INTERVAL=1s\n")
    with Visitors(lambda: inst.page(state["id"])[0]) as visitors:
        inst.install()
    assert set(visitors.replies) == {200} and visitors.asked > 40 # nobody noticed
    assert container("sandboxd") != daemon
    assert box_began(state) == box
    assert inst.page(state["id"])[0] == 200
    backups = list((DATA / "backups").glob("*/state/sandboxd.db"))
    assert len(backups) == 1


def test_who_uses_the_cpu_stays_awake(inst):
    """The daemon's container sees the sandboxes' use of the CPU; nothing but that keeps it awake."""
    status, box = inst.call("POST", "/v1/sandboxes", {"idle_timeout_s": 2})
    path = f"/v1/sandboxes/{box['id']}"
    assert status == 201
    # Longer than its timeout and some looks of the reaper.
    busy = "timeout 8 sh -c 'while :; do :; done'; echo whole > end"
    assert inst.call("POST", path + "/exec", {"cmd": busy, "cwd": "app", "detach": True})[0] == 200

    def why():
        return inst.call("GET", path + "/why")[1]
    until(lambda: why()["awake_because"] == "processes use the CPU", 7, "its use was seen")
    until(lambda: why()["asleep_because"] == "idle", 40, "asleep")
    assert inst.call("GET", path + "/files/stat?path=end")[0] == 200, "it slept with work under way"
    assert why()["status"] == "stopped"
    assert inst.call("DELETE", path)[0] == 204


def test_a_daemon_that_does_not_start_is_rolled_back(inst, state):
    box, image = box_began(state), docker("image", "inspect", "-f", "{{.Id}}", DAEMON)
    recipe, settings = (TREE / "deploy/Dockerfile").read_text(), (TREE / ".env").read_text()
    with open(TREE / "deploy/Dockerfile", "a") as f:
        f.write('ENTRYPOINT ["/bin/false"]\n')
    said = inst.install("--domain", "other.localhost", expect=1)
    assert "the old one and its settings are back" in said
    (TREE / "deploy/Dockerfile").write_text(recipe)
    assert (TREE / ".env").read_text() == settings
    assert docker("image", "inspect", "-f", "{{.Id}}", DAEMON) == image
    assert docker("inspect", "-f", "{{.Image}}", container("sandboxd")) == image
    assert box_began(state) == box
    assert inst.page(state["id"])[0] == 200


def test_uninstall_keeps_data_and_install_finds_them(inst, before, state):
    assert inst.call("PUT", f"/v1/sandboxes/{state['id']}/files?path=kept.txt", {"x": 1})[0] == 200
    instance = docker("inspect", "-f", '{{index .Config.Labels "sandboxed.instance"}}',
                      "s-" + state["id"].lower())
    said = inst.uninstall()
    assert str(DATA) in said and f"firewall table sandboxed_{instance}" in said
    left = lists()
    assert not docker("ps", "-aq", "--filter", f"label=sandboxed.instance={instance}")
    assert not container("sandboxd") and not container("traefik")
    assert not docker("network", "ls", "-q", "--filter", f"label=sandboxed.instance={instance}")
    assert not [t for t in left["tables"] if instance in t]
    assert (TREE / ".env").exists() and image_there(DAEMON) and image_there(BOX)
    # What its DNS provider wants to know is for Traefik alone.
    credentials = DATA / "traefik/dns.env"
    assert credentials.stat().st_mode & 0o777 == 0o600
    with open(credentials, "a") as f:
        f.write("EXAMPLE_API_KEY=very=secret\n")
    inst.install()
    with_it = {service: "EXAMPLE_API_KEY=very=secret" in json.loads(
        docker("inspect", container(service)))[0]["Config"]["Env"] for service in ("traefik", "sandboxd")}
    assert with_it == {"traefik": True, "sandboxd": False}
    assert "very=secret" in credentials.read_text()
    status, reply = inst.call("GET", f"/v1/sandboxes/{state['id']}")
    assert status == 200 and reply["id"] == state["id"]
    status, reply = inst.call("GET", f"/v1/sandboxes/{state['id']}/files")
    assert status == 200 and "kept.txt" in json.dumps(reply)


def test_uninstall_all_leaves_nothing(inst, before):
    assert "nothing was removed" in inst.uninstall("--all", expect=1) # nobody typed yes
    assert container("sandboxd")
    for name, kept in KEEP.items():
        docker("tag", name, kept)
    inst.uninstall("--all", "--yes")
    assert not DATA.exists() and not (TREE / ".env").exists()
    for name in (BOX, DAEMON, BUILD, PREVIOUS):
        assert not image_there(name), name
    after = lists()
    # Other installations of this machine come and go; theirs have names of their own.
    others = re.compile(r"table inet sandboxed_[0-9a-f]{16}$")
    foreign = {*docker("ps", "-aq", "--no-trunc", "--filter", "label=sandboxed.instance").split(),
               *docker("network", "ls", "-q", "--no-trunc", "--filter",
                       "label=sandboxed.instance").split()}
    for what in before:
        new = {x for x in after[what] - before[what]
               if x not in foreign and not others.match(x) and x not in KEEP.values()}
        assert not new, what
    for what in ("files", "images", "units"):
        assert before[what] <= after[what], what
    assert not [c for c in foreign if str(DATA) in docker("inspect", c, expect=None)]


def hardened(image, script):
    """Runs a script in an image as a sandbox would: uid 1000, read-only root, no rights, no network."""
    return docker("run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none",
                  "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:exec",
                  "--tmpfs", "/home/sandbox:exec,uid=1000,gid=1000", "--user", "1000:1000",
                  "--workdir", "/home/sandbox", image, "bash", "-ec", script)


def test_slim_image(inst):
    said = hardened(KEEP[BOX], "id -un; node -p 'process.versions.node.split(`.`)[0] >= 20'; npm -v;"
                               "python3 -V; git --version; stat -L -c '%u' /home/user")
    assert said.splitlines()[:2] == ["sandbox", "true"] and said.endswith("1000")
    # What each sandbox gets as its home, besides what the test above gave it.
    home = docker("run", "--rm", KEEP[BOX], "bash", "-c",
                  "cd; stat -c '%u %n' .bashrc .profile .gitconfig workspace/app;"
                  "git config --global init.defaultBranch")
    assert home.splitlines() == ["1000 .bashrc", "1000 .profile", "1000 .gitconfig",
                                 "1000 workspace/app", "main"]


@pytest.mark.skipif(not os.environ.get("SANDBOXED_FULL_IMAGE"), reason="set SANDBOXED_FULL_IMAGE=1")
def test_full_image(inst):
    name = f"{PROJECT}-full:1"
    authorities = list(pathlib.Path("/usr/local/share/ca-certificates").glob("*.crt"))
    env = dict(os.environ)
    if authorities:
        bundle = HOME / "authorities.pem"
        bundle.write_text("".join(a.read_text() for a in authorities))
        env["EXTRA_CA_FILE"] = str(bundle)
    try:
        run(str(TREE / "sandbox-image/build.sh"), "full", name, env=env)
        for tool in ("claude", "opencode", "node", "npm", "pnpm", "bun", "uv", "rg", "fd", "jq", "git",
                     "gcc", "make", "python3", "pip", "curl"):
            assert re.search(r"\d+\.\d+", hardened(name, tool + " --version")), tool
        hardened(name, "python3 -m venv v && uv venv w && unzip -v && bash -lc 'command -v pnpm'")
    finally:
        docker("rmi", name, expect=None)
