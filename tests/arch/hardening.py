"""The binary is position independent, its relocations are read-only from the start, no segment is both
writable and executable, the stack is not executable, functions with buffers carry canaries."""
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from arch import BINARY, fault, finish  # noqa: E402


def readelf(*options):
    return subprocess.run(["readelf", "-W", *options, BINARY], stdout=subprocess.PIPE, check=True,
                          text=True).stdout


head, segments, dynamic = readelf("-h"), readelf("-l"), readelf("-d")
checks = {
    "is position independent": "DYN (" in head,
    "has read-only relocations": "GNU_RELRO" in segments,
    "binds all symbols at start": "BIND_NOW" in dynamic or re.search(r"FLAGS.*\bNOW\b", dynamic),
    "has no text relocations": "TEXTREL" not in dynamic,
    "has no run path": "RPATH" not in dynamic and "RUNPATH" not in dynamic,
    "has a stack that is not executable":
        re.search(r"GNU_STACK.* RW +0x", segments) is not None,
    "has no segment that is writable and executable":
        re.search(r"LOAD.* RWE ", segments) is None,
    "has stack canaries": "__stack_chk_fail" in readelf("--dyn-syms"),
}
for what, holds in checks.items():
    if not holds:
        fault("sandboxd", f"not so: it {what}")
finish()
