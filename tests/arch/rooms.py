"""A room opens doors of lower rank only and knows its own private headers only; each library has one
room that may see it."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from arch import SOURCE, code, fault, files, finish, line_of  # noqa: E402

RANK = {"base": 0, "wire": 1, "model": 1, "config": 2, "store": 2, "docker": 2, "link": 2,
        "volume": 2, "net": 2, "cli": 2, "core": 3, "work": 4, "api": 4, "edge": 4, "front": 4, "main": 5}
# The agent is a second program: of ours it takes these and nothing else.
AGENT = {"base/limits.h", "base/cleanup.h", "base/fd.h", "base/err.h", "base/buf.h",
         "wire/frames.h"}
# cli/ is a program of its own in the same binary: it never runs in the daemon's process, so it has
# its own use of the libraries for HTTP and archives, and of no others.
LIBRARY = {"jansson.h": {"wire"}, "sqlite3.h": {"store"}, "curl/": {"docker", "cli"},
           "microhttpd.h": {"api"}, "nftables/": {"net"}, "archive": {"volume", "cli"},
           "pcre2": {"volume"}, "uuid/": {"model"}, "openssl/": {"base"}}
GENERATED = {"store_sql.h"}


def room_of(path):
    parts = path.relative_to(SOURCE).parts
    return parts[1] if len(parts) > 2 else "main"


for path in files("src/**/*.[ch]", "include/*/*.h"):
    room = room_of(path)
    if room == "embed": # a host tool, not a part of the program
        continue
    if room != "agent" and room not in RANK:
        fault(path, f"room {room} has no rank")
        continue
    text = code(path)
    for m in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', text, re.M):
        where, name = f"{path.relative_to(SOURCE)}:{line_of(text, m.start())}", m.group(2)
        if m.group(1) == "<":
            for prefix, owners in LIBRARY.items():
                if name.startswith(prefix) and room not in owners:
                    fault(where, f"<{name}> belongs to {'/ and '.join(sorted(owners))}/ alone")
            continue
        if "/" not in name:
            if name not in GENERATED and not (path.parent / name).exists():
                fault(where, f'"{name}" is not a private header of {room}/')
            continue
        door = name.split("/")[0]
        if not (SOURCE / "include" / name).exists():
            fault(where, f'"{name}" is no door')
        elif room == "agent":
            if name not in AGENT:
                fault(where, f'the agent may not open "{name}"')
        elif door != room and RANK.get(door, 99) >= RANK[room]:
            fault(where, f'{room}/ (rank {RANK[room]}) may not open "{name}" (rank {RANK.get(door)})')
finish()
