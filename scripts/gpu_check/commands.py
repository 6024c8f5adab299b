"""Starts programs with a deadline, and ends what they have started."""
import os
import pathlib
import signal
import subprocess
import time


class Unavailable(Exception):
    """Something that this machine does not have; the text says what to do."""


class Skipped(Exception):
    """A part cannot run here; the text says why."""


class Failed(Exception):
    """Something went wrong; `tail` is the end of what was printed."""

    def __init__(self, text, tail=""):
        super().__init__(text)
        self.tail = tail


class TooLate(Failed):
    """A deadline has passed."""


def tail_of(path, characters=4000):
    text = pathlib.Path(path).read_text(errors="replace")
    return text if len(text) <= characters else "...\n" + text[-characters:].split("\n", 1)[-1]


def descendants(pid):
    """Processes that `pid` has started, and theirs: children of mpirun have process groups of their own."""
    parents = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def end(process):
    """Ends a program that was started here, and all that it has started."""
    pids = [*descendants(process.pid), process.pid]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


class Job:
    """A program whose output goes to a file. Ended on the way out, if it still runs."""

    def __init__(self, words, log, env, cwd):
        self.words = [str(word) for word in words]
        self.log = pathlib.Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as file:
            file.write(f"$ {' '.join(self.words)}\n".encode())
            file.flush()
            self.begin = file.tell()
            try:
                self.process = subprocess.Popen(self.words, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                                env=env, cwd=cwd, start_new_session=True)
            except OSError as error:
                raise Failed(f"cannot start {self.words[0]}: {error}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            end(self.process)

    def output(self):
        with open(self.log, "rb") as file:
            file.seek(self.begin)
            return file.read().decode(errors="replace")

    def has_ended(self):
        return self.process.poll() is not None

    def wait(self, seconds):
        try:
            return self.process.wait(max(0.1, seconds))
        except subprocess.TimeoutExpired:
            end(self.process)
            raise TooLate(f"no end after {seconds:.0f} s: {' '.join(self.words)}", tail_of(self.log))


class Clock:
    """What is left of a part's time."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()
