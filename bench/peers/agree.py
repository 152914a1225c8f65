#!/usr/bin/env python3
"""The same loads through `bench run` and through `vllm bench serve`, in turn, on one real vLLM.

See README.md. Prints Markdown; needs `install.sh vllm`, and the model that
`cargo xtask stage provision --profile vllm-cpu` writes.
"""

import argparse
import datetime
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import clients
from clients import ROOT, Load
from run import host, say, table

READY_S_MAX = 600
# Loads by name: streams of a closed loop or requests a second, and requests.
CPU_LOADS = {
    "closed loop, 1 stream": {"streams": 1, "requests": 60},
    "closed loop, 16 streams": {"streams": 16, "requests": 480},
    "open loop, 4 requests/s": {"rate": 4, "requests": 120},
}
CARD_LOADS = {
    "burst": {"requests": 1000},
    "open loop, 8 requests/s": {"rate": 8, "requests": 120},
}
METRICS = {
    "TTFT mean ms": (lambda s: s["ttft"]["mean_ms"], "mean_ttft_ms"),
    "TTFT P50 ms": (lambda s: s["ttft"]["p50_ms"], "median_ttft_ms"),
    "TPOT mean ms": (lambda s: s["tpot"]["mean_ms"], "mean_tpot_ms"),
    "ITL mean ms": (lambda s: s["itl"]["mean_ms"], "mean_itl_ms"),
    "E2E mean ms": (lambda s: s["e2e"]["mean_ms"], "mean_e2el_ms"),
    "output tokens/s": (lambda s: s["output_tokens_per_s"], "output_throughput"),
}


class Server:
    """vLLM on a free port; it is gone when the block ends."""

    def __init__(self, python: Path, model: Path, folder: Path, gpu: int | None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        options = {
            "--model": model,
            "--served-model-name": "null",
            "--port": port,
            "--load-format": "dummy",
            "--tokenizer": model / "tokenizer",
            "--dtype": "bfloat16",
        }
        # Both clients repeat their prompts from run to run.
        flags = ["--no-enable-prefix-caching"]
        env = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        if gpu is None:
            options |= {"--max-model-len": 512, "--kv-cache-memory-bytes": 64 << 20}
            flags.append("--enforce-eager")
        else:
            options["--max-model-len"] = 4096
            env |= {"CUDA_VISIBLE_DEVICES": str(gpu), "VLLM_USE_FLASHINFER_SAMPLER": "0"}
        self.log = (folder / "vllm.log").open("w")
        self.process = subprocess.Popen(
            [python, "-m", "vllm.entrypoints.openai.api_server", *clients.flattened(options), *flags],
            env=env,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self):
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.address}/health"):
                    return self
            except OSError:
                time.sleep(0.5)
        self.__exit__()
        sys.exit(f"error: vLLM did not start; see {self.log.name}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def figures(client: clients.Client, load: Load) -> dict[str, float]:
    """Runs a load to its end and gives what the client says of it."""
    with (load.folder / "stdout").open("w") as out, (load.folder / "stderr").open("w") as errors:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        command = client.command(load)
        subprocess.run(command, cwd=load.folder, env=environment, stdout=out, stderr=errors, check=True)
    if client.name == "bench run":
        events = map(json.loads, (load.folder / "stdout").read_text().splitlines())
        summary = next(e for e in events if e["event"] == "trial")["outcome"]["summary"]
        return {name: of(summary) for name, (of, _) in METRICS.items()}
    result = json.loads((load.folder / "result.json").read_text())
    if result["completed"] != load.requests:
        sys.exit(f"error: {client.name} completed {result['completed']} of {load.requests} requests")
    return {name: result[field] for name, (_, field) in METRICS.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=2, help="runs of each client on each load (2)")
    parser.add_argument("--python", type=Path, default=clients.Vllm.program, help="an interpreter with vLLM")
    parser.add_argument("--model", type=Path, help="a model's folder (artifacts/models/tiny-…)")
    parser.add_argument("--gpu", type=int, help="on this card, with loads for one; without it on the CPU")
    options = parser.parse_args()
    clients.Vllm.program = options.python
    options.model = options.model or next((ROOT / "artifacts/models").glob("tiny-*"), None)
    if not options.model:
        sys.exit("error: no artifacts/models/tiny-…: cargo xtask stage provision --profile vllm-cpu")
    if "PROGRAMS" not in os.environ:
        subprocess.run(["cargo", "build", "--quiet", "--release", "--package", "bench"], cwd=ROOT, check=True)
    input_tokens, output_tokens, loads = (64, 32, CPU_LOADS) if options.gpu is None else (256, 128, CARD_LOADS)
    model = {
        "input_tokens": input_tokens,
        "tokenizer": options.model / "tokenizer",
        "vocab_size": json.loads((options.model / "config.json").read_text())["vocab_size"],
    }
    both = [clients.Ours(), clients.Vllm()]
    base = Path(tempfile.mkdtemp(prefix="agree-"))
    print(f"{datetime.date.today()}, {host()}; vLLM {both[1].version()}, {options.model.name}, on the same cores.")
    with Server(options.python, options.model, base, options.gpu) as server:
        folders = (base / str(n) for n in range(10_000))

        def measure(client, load):
            folder = next(folders)
            folder.mkdir()
            return figures(client, Load(server.address, folder, output_tokens, **load, **model))

        measure(both[0], {"streams": 4, "requests": 40})  # not counted: the server's first steps are slow
        for name, load in loads.items():
            runs = {client.name: [] for client in both}
            for n in range(options.runs):
                for client in both:
                    say(f"{name}, run {n + 1}: {client.name}")
                    runs[client.name].append(measure(client, load))
            print(f"\n### {name}, {load['requests']} requests\n")
            header = ["", *(f"{client} {n + 1}" for client in runs for n in range(options.runs)), "difference", "noise"]
            print(table(header, [row(metric, list(runs.values())) for metric in METRICS]), flush=True)


def row(metric: str, runs: list[list[dict]]) -> list[str]:
    """The runs of both clients, by how much the second's mean is off the first's, and the largest
    spread of one client's runs, in percent of its mean."""
    ours, theirs = ([run[metric] for run in of] for of in runs)
    means = [statistics.mean(values) for values in (ours, theirs)]
    noise = max((max(v) - min(v)) / m for v, m in zip((ours, theirs), means))
    cells = [f"{value:,.2f}" for value in ours + theirs]
    return [metric, *cells, f"{100 * (means[1] / means[0] - 1):+.1f} %", f"{100 * noise:.1f} %"]


if __name__ == "__main__":
    main()
