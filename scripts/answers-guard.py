#!/usr/bin/env python3
"""Planted faults and equals, judged by the check of answers on a real small model on a CPU.

    scripts/smollm2.sh target/smollm2-135m
    python3 scripts/answers-guard.py target/smollm2-135m PYTHON [FOLDER [NAME…]]

PYTHON is an interpreter with vLLM (artifacts/env/…/bin/python after `cargo xtask stage provision --profile
vllm-cpu-ci`). Each server (a fork of one process that has imported
vLLM) answers the whole prompt set once, into FOLDER (default target/answers-guard); one
that is there already is not started again. Then 40 tries of each setting are judged, each by a fresh random
subset of 60 % of the prompts: the tries of one setting share its one start. With NAMEs only these are asked, and
nothing is judged.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTEXT_TOKENS = 384
MODEL_LENGTH = "512"
START_LIMIT_S = 1500


def overrides(**fields):
    return ["--hf-overrides", json.dumps(fields)]


LAYERS = 30
# Name -> arguments of the server; two have models of their own.
SETTINGS = {
    "reference-0": [],
    "reference-1": [],
    "equal-restart": [],
    "equal-max-num-seqs-2": ["--max-num-seqs", "2"],
    "equal-no-prefix-caching": ["--no-enable-prefix-caching"],
    "fault-rope-base": overrides(rope_parameters={"rope_theta": 10000.0, "rope_type": "default"}),
    "fault-rms-norm-eps": overrides(rms_norm_eps=0.1),
    "fault-truncated-context": overrides(
        layer_types=["sliding_attention"] * LAYERS, sliding_window=64
    ),
    "fault-layer-without-attention": [],
    # Below the margin: nobody has promised to catch it.
    "small-damage": [],
}


def load(prompts):
    """As the stage `answers` plans it."""
    one = {"name": "answers", "share": "1", "input_tokens": {"min": 1, "max": CONTEXT_TOKENS},
           "output_tokens": {"min": 1, "max": 16}}
    return {
        "arrival": {"process": "closed-loop", "concurrency": 8},
        "size": {"requests": prompts},
        "classes": [one],
        "seed": 0,
        "request": {"api": "completions", "stream": True, "ignore_eos": True},
        "answers": {"version": 1, "context_tokens": CONTEXT_TOKENS},
    }


# By which the output of the attention in layer 15 is scaled.
SCALES = {"fault-layer-without-attention": "0.0", "small-damage": "0.7"}


def damaged(model, folder, scale):
    """The model with the output of the attention in one layer scaled."""
    copy = folder / f"model-{scale}"
    if not (copy / "model.safetensors").exists():
        shutil.copytree(model, copy, dirs_exist_ok=True)
        code = (
            "import sys; from safetensors.torch import load_file, save_file\n"
            "path = sys.argv[1]; tensors = load_file(path)\n"
            "name = 'model.layers.15.self_attn.o_proj.weight'\n"
            "tensors[name] = tensors[name] * float(sys.argv[2])\n"
            "save_file(tensors, path, metadata={'format': 'pt'})\n"
        )
        subprocess.run([sys.argv[2], "-c", code, copy / "model.safetensors", scale], check=True)
    return copy


class Launcher:
    """Servers as forks of one process that has imported vLLM: imports take most of a start on a CPU."""

    MODULES = ["vllm.entrypoints.openai.api_server", "vllm.v1.engine.core", "vllm.v1.worker.cpu_worker",
               "vllm.v1.worker.cpu_model_runner", "vllm.model_executor.models.llama"]

    def __init__(self, python, folder):
        path = ROOT / "xtask/engines/src/vllm/launcher.py"
        env = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1",
                            "VLLM_NO_USAGE_STATS": "1"}
        with open(folder / "launcher.log", "w") as log:
            self.process = subprocess.Popen([python, "-B", path, *self.MODULES], stderr=log, env=env,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self.event("ready")
        print(f"imported in {ready['import_s']:.0f} s", flush=True)

    def event(self, *wanted):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] in wanted:
                return event
            if event["event"] == "refused":
                sys.exit(f"no server: {event['reason']}")
        sys.exit("the launcher ended; see launcher.log")

    def tell(self, **request):
        self.process.stdin.write(json.dumps({"v": 1, **request}) + "\n")
        self.process.stdin.flush()

    def start(self, name, args, log, folder):
        """The process group of a new server."""
        self.tell(op="launch", id=name, module="vllm.entrypoints.openai.api_server", args=args, env={},
                  log=str(log), cwd=str(folder))
        pid = self.event("forked")["pid"]
        self.tell(op="go", id=name)
        return pid

    def stop(self, name, pid):
        for number, wait in ((15, True), (9, False)):
            try:
                os.killpg(pid, number)
            except ProcessLookupError:
                pass
            if wait:
                self.event("ended")
        self.tell(op="reap", id=name)


def ask(name, args, model, launcher, bench, folder):
    """Starts a server, asks it every prompt, keeps the record."""
    record = folder / f"{name}.json"
    if record.exists():
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["--model", str(model), "--served-model-name", "m", "--max-model-len", MODEL_LENGTH,
               "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port), *args]
    start, log = time.monotonic(), folder / f"{name}.log"
    log.unlink(missing_ok=True)
    server = launcher.start(name, command, log, folder)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except OSError:
                if not Path(f"/proc/{server}/exe").exists() or time.monotonic() - start > START_LIMIT_S:
                    print(f"{name} did not start; see {log}", flush=True)
                    return
                time.sleep(1)
        up = time.monotonic()
        plan = folder / f"{name}.plan.json"
        key = hashlib.sha256(name.encode()).hexdigest()
        trial = {"key": key, "load": load(108)}
        engine = {"kind": "server", "base_url": url, "model": "m", "vocab_size": 49152}
        plan.write_text(json.dumps({"format": 1, "launch": name, "engine": engine, "args": {},
                                    "env": {}, "replicate": 0, "trials": [trial]}))
        told = subprocess.run([bench, "run", "--plan", plan, "--out", folder / "samples"],
                              check=True, stdout=subprocess.PIPE, text=True).stdout
        events = [json.loads(line) for line in told.splitlines()]
        outcome = next(event["outcome"] for event in events if event["event"] == "trial")
        check = outcome["checks"][0]
        if not check["passed"]:
            sys.exit(f"{name}: {check['detail']}")
        record.write_text(json.dumps(outcome["answers"]))
        print(f"{name}: up in {up - start:.0f} s, {check['detail']} in {time.monotonic() - up:.0f} s",
              flush=True)
    finally:
        launcher.stop(name, server)


def main():
    model, python = Path(sys.argv[1]).resolve(), sys.argv[2]
    folder = Path(sys.argv[3] if len(sys.argv) > 3 else ROOT / "target/answers-guard").resolve()
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    bench = os.environ.get("BENCH")
    if bench is None:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--bins"], cwd=ROOT, check=True)
        bench = ROOT / "target/release/bench"
    launcher, names = Launcher(python, folder), sys.argv[4:] or list(SETTINGS)
    for name in names:
        args = SETTINGS[name]
        of = damaged(model, folder, SCALES[name]) if name in SCALES else model
        ask(name, args, of, launcher, bench, folder)
    if sys.argv[4:]:
        return
    subprocess.run(["cargo", "run", "--quiet", "--example", "answers-guard", "--", folder],
                   cwd=ROOT, check=True)


main()
