"""A vLLM worker on the CPU whose steps take as long as a step model says, whatever the machine is doing.

On a virtual machine the same loop takes 10 ms in one second and 18 ms in the next, as other machines share the cores: a
throughput that holds for a latency cannot be measured twice there. So the tiny model computes for real, and each step
then ends at the time that the model below gives, as it would on a GPU of its own. Everything else is vLLM's: scheduler,
batching, HTTP server, streaming.

Loaded into vLLM with `--worker-cls paced_worker.PacedWorker`; runs in vLLM's environment, not in Medley's.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from vllm.v1.worker.cpu_worker import CPUWorker

BASE_MS, PER_SEQUENCE_MS, PER_PROMPT_TOKEN_MS = 20.0, 0.6, 0.1
_BETWEEN_STEPS_S = 0.004  # vLLM's own work from step to step: less apart, and a step begins where the last one ended
_SPIN_S = 0.001  # sleep wakes up late by less than this
_TELL_EVERY = 2000


class PacedWorker(CPUWorker):
    """Holds each step to its time; steps that took longer by themselves are counted, and told on standard error."""

    _ends_s = 0.0
    _steps = 0
    _late_steps = 0
    _latest_s = 0.0

    def execute_model(self, scheduler_output: Any) -> Any:
        """Runs vLLM's own; notes when the step has to end."""
        now_s = time.monotonic()
        begins_s = self._ends_s if now_s - self._ends_s < _BETWEEN_STEPS_S else now_s
        sequences = len(scheduler_output.num_scheduled_tokens)
        prompt_tokens = scheduler_output.total_num_scheduled_tokens - sequences
        step_ms = BASE_MS + PER_SEQUENCE_MS * sequences + PER_PROMPT_TOKEN_MS * prompt_tokens
        self._ends_s = begins_s + (step_ms / 1000.0 if sequences else 0.0)
        return super().execute_model(scheduler_output)

    def sample_tokens(self, grammar_output: Any) -> Any:
        """Runs vLLM's own, which ends a step; returns when the step's time is over."""
        output = super().sample_tokens(grammar_output)
        left_s = self._ends_s - time.monotonic()
        if left_s > _SPIN_S:
            time.sleep(left_s - _SPIN_S)
        while time.monotonic() < self._ends_s:
            pass
        late_s = time.monotonic() - self._ends_s
        if late_s > _SPIN_S:
            self._late_steps += 1
            self._latest_s = max(self._latest_s, late_s)
            self._ends_s += late_s
        self._steps += 1
        if self._steps % _TELL_EVERY == 0:
            told = f"{self._late_steps} late, at most {1000.0 * self._latest_s:.1f} ms"
            print(f"paced: {self._steps} steps, {told}", file=sys.stderr)
        return output
