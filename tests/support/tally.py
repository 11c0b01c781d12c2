"""tally.py DIRECTORY [STAGE...]: sums the JUnit files of a run and prints the failed tests, then
"N passed, N failed, N skipped". The stages named have failed: one that has no failed test of its own
counts as one failed. Exit status 1 when anything failed."""
import pathlib
import sys
import xml.etree.ElementTree as xml


def verdict(case):
    # pytest: children <failure>, <error>, <skipped>. ctest: the same, and an attribute.
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"} or case.get("status") == "fail":
        return "failed"
    if "skipped" in kinds or case.get("status") in ("notrun", "disabled"):
        return "skipped"
    return "passed"


def main(directory, broken):
    count = {"passed": 0, "failed": 0, "skipped": 0}
    explained = set()
    for path in sorted(pathlib.Path(directory).glob("*.xml")):
        stage = path.stem.split("-")[0]
        try:
            cases = list(xml.parse(path).iter("testcase"))
        except xml.ParseError:
            print(f"unreadable: {path}")
            broken.append(stage)
            continue
        seen = {}
        for case in cases:
            # A test whose teardown fails has two entries in pytest's file; it failed once.
            name = case.get("name")
            if case.get("classname") not in (None, name):
                name = f"{case.get('classname')}.{name}"
            rank = ("passed", "skipped", "failed")
            seen[name] = max(seen.get(name, "passed"), verdict(case), key=rank.index)
        for name, what in seen.items():
            count[what] += 1
            if what == "failed":
                explained.add(stage)
                print(f"failed in {stage}: {name}")
    for stage in dict.fromkeys(broken):
        if stage not in explained:
            count["failed"] += 1
            print(f"failed: stage {stage}")
    print(", ".join(f"{n} {what}" for what, n in count.items()))
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
