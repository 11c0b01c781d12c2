"""Removes what killed test runs left behind, and nothing else: directories with the test prefix whose
owner is gone; daemons that serve such a directory; containers, networks and firewall tables that lead
to one, by a mount below it or by the instance name in its database."""
import os
import pathlib
import shutil
import signal
import time

import sandboxd


def owner_lives(directory):
    """The process that made it still runs. One without the note is given an hour."""
    try:
        pid, began = pathlib.Path(directory, "owner").read_text().split()
    except (OSError, ValueError):
        return os.path.exists(directory) and time.time() - os.stat(directory).st_mtime < 3600
    return sandboxd.process_began(int(pid)) == began


def end_daemon(directory):
    try:
        pid = int(pathlib.Path(directory, "pid").read_text())
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if f"SANDBOXED_DATA_DIR={directory}/data".encode() in environment:
        print(f"leftovers: daemon {pid}")
        os.kill(pid, signal.SIGKILL)
        sandboxd.until(lambda: sandboxd.process_began(pid) is None, 10, "end of the daemon")


def test_directory(path):
    """/tmp/sandboxed-test-x of a path at or below it, or None."""
    if not path.startswith(sandboxd.DATA_PREFIX):
        return None
    return "/".join(path.split("/")[:3])


def main():
    engine = sandboxd.Engine()
    base = pathlib.Path(sandboxd.DATA_PREFIX)
    stale = {str(d) for d in base.parent.glob(base.name + "*") if not owner_lives(str(d))}
    for directory in stale:
        end_daemon(directory)
    instances = {sandboxd.instance_of(d + "/data") for d in stale} - {None}
    for container in engine.containers():
        for mount in container.get("Mounts", []):
            directory = test_directory(mount.get("Source", ""))
            if directory and (directory in stale or not os.path.exists(directory)):
                instances.add(container["Labels"]["sandboxed.instance"])
    for instance in instances:
        for what in sandboxd.engine_clean(instance, engine):
            print("leftovers:", what)
    for directory in sorted(stale):
        print("leftovers:", directory)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
