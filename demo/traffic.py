"""Real test images to the edge at a bounded rate, with their labels a moment later.

    python demo/traffic.py --model digits --rate 100 --seconds 300 --summary FILE

Stops at SIGTERM or SIGINT and writes what it saw: answers per version and failed requests.
"""

import argparse
import asyncio
import json
import signal
import time
from collections import Counter
from pathlib import Path

import httpx2
import numpy as np
from numpy.typing import NDArray

from steelyard.settings import load_settings
from steelyard_workflows.recipes.digits_cnn import digits_cnn

LABEL_BATCH = 50
INPUT = "input"


class Traffic:
    """Open-loop traffic: requests start on a fixed beat, whatever the answers do."""

    def __init__(self, model: str, rate: float) -> None:
        settings = load_settings()
        self._url = f"{settings.edge_url}/v2/models/{model}/infer"
        self._labels_url = f"{settings.api_url}/api/v1/labels"
        self._token = (settings.secret_dir / "api.token").read_text().strip()
        self._pause = 1 / rate
        self._client = httpx2.AsyncClient(timeout=30)
        self._due: list[dict[str, object]] = []
        self.answers: Counter[str] = Counter()
        self.failed: list[str] = []
        self.stop = asyncio.Event()

    async def run(self, seconds: float) -> None:
        """Send until ``seconds`` are over or ``stop`` is set; every image in a seeded order."""
        recipe = digits_cnn()
        test = recipe.data(recipe.workflow).test
        order = np.random.default_rng(7).permutation(len(test))
        started = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        number = 0
        while not self.stop.is_set() and time.monotonic() - started < seconds:
            row = int(order[number % len(order)])
            task = asyncio.create_task(self._ask(test.inputs[row], int(test.labels[row])))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            await asyncio.sleep(max(0.0, started + number * self._pause - time.monotonic()))
        await asyncio.gather(*tasks)
        await self._send_labels()
        await self._client.aclose()

    async def _ask(self, image: NDArray[np.float32], label: int) -> None:
        tensor = {"name": INPUT, "shape": [1, *image.shape], "datatype": "FP32",
                  "data": image.ravel().tolist()}  # fmt: skip
        try:
            answer = await self._client.post(self._url, json={"inputs": [tensor]})
        except httpx2.HTTPError as error:
            self.failed.append(repr(error))
            return
        if answer.status_code != 200:
            self.failed.append(f"HTTP {answer.status_code}: {answer.text[:200]}")
            return
        self.answers[answer.json()["model_version"]] += 1
        self._due.append({"prediction_id": answer.headers["x-prediction-id"], "classes": [label]})
        if len(self._due) >= LABEL_BATCH:
            await self._send_labels()

    async def _send_labels(self) -> None:
        batch, self._due = self._due, []
        if not batch:
            return
        answer = await self._client.post(
            self._labels_url,
            json={"labels": batch, "source": "demo"},
            headers={"authorization": f"Bearer {self._token}"},
        )
        if answer.status_code != 200:
            self.failed.append(f"labels: HTTP {answer.status_code}: {answer.text[:200]}")


async def main() -> None:
    """Read the options, send, write the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=300.0, help="bound on the whole run")
    parser.add_argument("--summary", type=Path, required=True)
    options = parser.parse_args()
    traffic = Traffic(options.model, options.rate)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, traffic.stop.set)
    await traffic.run(options.seconds)
    summary = {"answers": dict(traffic.answers), "failed": traffic.failed[:20],
               "failures": len(traffic.failed)}  # fmt: skip
    options.summary.write_text(json.dumps(summary))


if __name__ == "__main__":
    asyncio.run(main())
