#!/usr/bin/env python3
"""Every client against one null server, the server on one core and the client on another.

See README.md. Prints Markdown; needs `cargo` and, for the peers, `install.sh`.
"""

import argparse
import datetime
import itertools
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import clients
import tokenizer
from clients import ROOT, Client, Figures, Load

CEILING_TOKENS = 128
ACCURACY_TOKENS = 64
TTFT_MS, ITL_MS = 100, 10
STREAMS = [64, 512]
EVENTS_PER_WRITE = [1, 64]
RATES = [20, 100, 200, 400, 1000]
# A peer may take half a minute to its first request, and be far behind at its last.
START_S_MAX = 180
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def never_wait():
    """This program reads the server's account and the client's CPU time in one moment, though the
    server leaves its core no rest."""
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(2))


def start(core: int, options, command: list, **more) -> subprocess.Popen:
    """Starts a command on its core, in a session of its own."""
    return subprocess.Popen(
        ["taskset", "-c", str(core), *(["chrt", "--rr", "1"] if options.first else []), *command],
        start_new_session=True,
        **more,
    )


class Server:
    """`bench serve` on its core; its account is read from /truth and from its last line."""

    def __init__(self, options, *args: str):
        command = [ROOT / "target/release/bench", "serve", "--port", "0", *args]
        self.process = start(options.server_core, options, command, stdout=subprocess.PIPE, text=True)
        self.address = json.loads(self.process.stdout.readline())["listening"]

    def truth(self) -> dict:
        with urllib.request.urlopen(f"http://{self.address}/truth") as answer:
            return json.load(answer)

    def cpu_s(self) -> float:
        return cpu_s(self.process.pid)

    def stop(self) -> dict:
        self.process.terminate()
        line = self.process.communicate()[0].splitlines()[-1]
        return json.loads(line)["truth"]


class Running:
    """A client with all the processes of its session."""

    def __init__(self, client: Client, load: Load, options):
        self.start = time.monotonic()
        self.log = load.folder / "stdout"
        environment = os.environ | {
            "HF_HOME": str(clients.HF_HOME),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "NO_COLOR": "1",
        }
        with self.log.open("w") as out, (load.folder / "stderr").open("w") as errors:
            self.process = start(
                options.client_core,
                options,
                client.command(load),
                cwd=load.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        self.memory_mib_max = 0.0

    def processes(self) -> list[int]:
        """Those of the session that the client leads."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                stat = read_stat(int(entry.name))
                if stat and int(stat[3]) == self.process.pid:
                    found.append(int(entry.name))
        return found

    def look(self) -> float:
        """CPU seconds so far; takes note of the memory on the way."""
        pids = self.processes()
        pages = [stat[21] for stat in map(read_stat, pids) if stat]
        mib = sum(int(count) for count in pages) * PAGE_BYTES / 2**20
        self.memory_mib_max = max(self.memory_mib_max, mib)
        return sum(cpu_s(pid) for pid in pids)

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def stop(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def read_stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def cpu_s(pid: int) -> float:
    stat = read_stat(pid)
    return (int(stat[11]) + int(stat[12])) / TICKS_PER_S if stat else 0.0


@dataclass
class Ceiling:
    """One closed loop in its steady state."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    client_cpu: float
    server_cpu: float
    start_s: float
    memory_mib: float


@dataclass
class Accuracy:
    """One open loop: what the client says, and what the server says it did."""

    said: Figures
    truth: dict
    rate_sent: float


class Failed(Exception):
    """A client that did not do what it was told."""


def first_request(server: Server, running: Running) -> float:
    """Waits for the first request; seconds since the client's start."""
    while True:
        elapsed = time.monotonic() - running.start
        if server.truth()["arrived"] > 0:
            return elapsed
        if running.has_ended() or elapsed > START_S_MAX:
            raise Failed("it sent no request")
        running.look()
        # Close to it for a client that starts at once, seldom for one that takes long.
        time.sleep(min(0.1, max(0.002, elapsed / 50)))


def ceiling(client: Client, load: Load, options, events: int) -> Ceiling:
    server = Server(options, "--events-per-write", str(events))
    load = Load(server.address, load.folder, load.output_tokens, streams=load.streams)
    running = Running(client, load, options)
    try:
        start_s = first_request(server, running)
        # Each stream has ended twice: connections are open and code is warm.
        warm = 2 * load.streams * load.output_tokens
        while (truth := server.truth())["output_tokens"] < warm:
            if running.has_ended() or time.monotonic() - running.start > START_S_MAX:
                raise Failed(f"it took {truth['output_tokens']} tokens of {warm} to warm up")
            time.sleep(0.1)
        before = (time.monotonic(), server.truth()["output_tokens"], running.look(), server.cpu_s())
        time.sleep(options.seconds)
        after = (time.monotonic(), server.truth()["output_tokens"], running.look(), server.cpu_s())
        if running.has_ended():
            raise Failed("it ended before the measurement did")
    finally:
        running.stop()
        server.stop()
    wall, tokens, client_s, server_s = (b - a for a, b in zip(before, after))
    return Ceiling(
        tokens_per_s=tokens / wall,
        tokens_per_cpu_s=tokens / client_s,
        client_cpu=client_s / wall,
        server_cpu=server_s / wall,
        start_s=start_s,
        memory_mib=running.memory_mib_max,
    )


def accuracy(client: Client, load: Load, options) -> Accuracy:
    server = Server(options, "--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS))
    load = Load(server.address, load.folder, load.output_tokens, rate=load.rate, requests=load.requests)
    running = Running(client, load, options)
    arrivals = []
    try:
        first_request(server, running)
        while not running.has_ended():
            if time.monotonic() - running.start > START_S_MAX + 20 * options.seconds:
                raise Failed("it did not end")
            arrivals.append((time.monotonic(), server.truth()["arrived"]))
            time.sleep(0.2)
    finally:
        running.stop()
        truth = server.stop()
    try:
        said = client.figures(load)
    except (OSError, KeyError, StopIteration, ValueError) as error:
        raise Failed(f"it left no figures ({error!r})") from error
    return Accuracy(said, truth, rate_sent(arrivals))


def rate_sent(arrivals: list[tuple[float, int]]) -> float:
    """Arrivals a second between the first and the last fifth of them."""
    total = arrivals[-1][1]
    middle = [(at, n) for at, n in arrivals if 0.2 * total <= n <= 0.8 * total]
    if len(middle) < 2:
        return float("nan")
    (from_s, first), (to_s, last) = middle[0], middle[-1]
    return (last - first) / (to_s - from_s)


def attempt(measure, client: Client, load: Load, *args):
    """One measurement in a folder of its own; says on stderr what failed and keeps its logs."""
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    load = Load("", folder, load.output_tokens, load.streams, load.rate, load.requests)
    try:
        result = measure(client, load, *args)
    except Failed as failure:
        say(f"  {client.name}: {failure}; its output is in {folder}")
        return None
    shutil.rmtree(folder)
    return result


def median(runs: list, value) -> float:
    return statistics.median(map(value, runs)) if runs else float("nan")


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def say(text: str):
    print(text, file=sys.stderr, flush=True)


def measure_ceilings(chosen: list[Client], options):
    for events, streams in itertools.product(EVENTS_PER_WRITE, options.streams):
        # The peers cannot keep up with one event a write: more show nothing new.
        some = [c for c in chosen if events == 1 or c.name in ("bench run", "bare hyper", "oha")]
        load = Load("", Path(), CEILING_TOKENS, streams=streams)
        runs = {client.name: [] for client in some}
        for n, client in itertools.product(range(options.runs), some):
            say(f"{events} events a write, {streams} streams, run {n + 1}: {client.name}")
            if run := attempt(ceiling, client, load, options, events):
                runs[client.name].append(run)
        print(f"\n### Closed loop, {streams} streams, {events} event{'s' * (events > 1)} a write\n")
        header = ["client", "tokens/s", "tokens/CPU s", "client CPU", "server CPU", "first request s", "memory MiB"]
        rows = [
            [
                name,
                f"{median(of, lambda r: r.tokens_per_s):,.0f}",
                f"{median(of, lambda r: r.tokens_per_cpu_s):,.0f}",
                f"{median(of, lambda r: 100 * r.client_cpu):.0f} %",
                f"{median(of, lambda r: 100 * r.server_cpu):.0f} %",
                f"{median(of, lambda r: r.start_s):.3f}",
                f"{median(of, lambda r: r.memory_mib):.0f}",
            ]
            for name, of in runs.items()
        ]
        print(table(header, rows), flush=True)


def measure_accuracy(chosen: list[Client], options):
    header = [
        "client", "sent/s", "completed", "TTFT P50 ms, client / server", "TTFT P99 ms",
        "ITL mean ms", "send lag P99 ms",
    ]  # fmt: skip
    for rate in options.rates:
        requests = rate * options.seconds
        load = Load("", Path(), ACCURACY_TOKENS, rate=rate, requests=requests)
        some = [c for c in chosen if c.command(Load("", Path(tempfile.gettempdir()), 1, rate=rate, requests=requests))]
        runs = {client.name: [] for client in some}
        for n, client in itertools.product(range(options.runs), some):
            say(f"{rate} requests/s, run {n + 1}: {client.name}")
            if run := attempt(accuracy, client, load, options):
                runs[client.name].append(run)
        print(f"\n### Open loop, {rate} requests/s, {requests} requests\n")
        pair = lambda of, said, truth: f"{median(of, said):.2f} / {median(of, truth):.2f}"
        rows = [
            [
                name,
                f"{median(of, lambda r: r.rate_sent):.0f}",
                f"{median(of, lambda r: r.said.completed):.0f}",
                pair(of, lambda r: r.said.ttft_p50_ms, lambda r: r.truth["ttft"]["p50_ms"]),
                pair(of, lambda r: r.said.ttft_p99_ms, lambda r: r.truth["ttft"]["p99_ms"]),
                pair(of, lambda r: r.said.itl_mean_ms, lambda r: r.truth["itl"]["mean_ms"]),
                f"{median(of, lambda r: r.said.send_lag_p99_ms):.3f}"
                if of and of[0].said.send_lag_p99_ms is not None
                else "not said",
            ]
            for name, of in runs.items()
        ]
        print(table(header, rows), flush=True)


def host() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def parse_arguments():
    numbers = lambda text: [int(part) for part in text.split(",")]
    names = lambda text: text.split(",")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", type=names, help="clients, such as 'bench run,bare hyper'; else all that are there")
    parser.add_argument("--part", choices=["ceiling", "accuracy"], help="one part of the two")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, whose median is shown (5)")
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement (5)")
    parser.add_argument("--streams", type=numbers, default=STREAMS, help="closed loops (64,512)")
    parser.add_argument("--rates", type=numbers, default=RATES, help="open loops (20,100,200,400,1000)")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--first", action="store_true", help="before all else on the two cores: for root, on a busy machine")
    return parser.parse_args()


def main():
    options = parse_arguments()
    build = ["cargo", "build", "--quiet", "--release", "--package", "bench", "--bins", "--examples"]
    subprocess.run(build, cwd=ROOT, check=True)
    tokenizer.write(clients.TOKENIZER)
    names = [client.name for client in clients.ALL]
    if unknown := [name for name in options.only or [] if name not in names]:
        sys.exit(f"error: no client {unknown[0]!r}: there are {', '.join(names)}")
    chosen = [c for c in clients.ALL if (not options.only or c.name in options.only) and c.program.exists()]
    # This program must not take the client's time.
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {options.client_core})
    if options.first:
        never_wait()
    print(f"{datetime.date.today()}, {host()}. Medians of {options.runs} runs of {options.seconds} s.\n")
    print("; ".join(f"{client.name} {client.version()}" for client in chosen) + ".", flush=True)
    if options.part != "accuracy":
        measure_ceilings(chosen, options)
    if options.part != "ceiling":
        measure_accuracy(chosen, options)


if __name__ == "__main__":
    main()
