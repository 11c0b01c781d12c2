"""Visitors of a page who come twenty times a second, answered or not, while something else happens.

    with Visitors(lambda: (status, body)) as v:
        ...                                # v.asked: how many have come so far
    v.replies                              # what each got; an OSError in place of a reply"""
import threading

EVERY_S = 0.05


class Visitors(threading.Thread):
    def __init__(self, ask):
        super().__init__()
        self._ask, self._enough, self._visits = ask, threading.Event(), []
        self.replies = []

    @property
    def asked(self):
        return len(self._visits)

    def _visit(self):
        try:
            self.replies.append(self._ask())
        except OSError as e:
            self.replies.append(e)

    def run(self):
        while not self._enough.wait(EVERY_S):
            self._visits.append(threading.Thread(target=self._visit))
            self._visits[-1].start()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        self.join()
        for v in self._visits:
            v.join()
