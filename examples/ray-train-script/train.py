"""A Ray Train script on scikit-learn's digits that has never heard of Steelyard.

steelyard run --model digits-script -- python examples/ray-train-script/train.py --epochs 3
"""

import argparse

import ray.train
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model
from sklearn.datasets import load_digits
from torch import nn


def train_loop(config: dict) -> None:
    """What each worker does: learn its share of the rows, report every epoch."""
    digits = load_digits()
    context = ray.train.get_context()
    mine = slice(context.get_world_rank(), 1437, context.get_world_size())
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    torch.manual_seed(0)
    network = prepare_model(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)))
    optimizer = torch.optim.Adam(network.parameters(), lr=config["learning_rate"])
    for epoch in range(1, config["epochs"] + 1):
        for rows in torch.arange(len(labels))[mine].split(32):
            loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = network(images[1437:]).argmax(1) == labels[1437:]
        ray.train.report(
            {"epoch": epoch, "loss": loss.item(), "accuracy": right.float().mean().item()}
        )


def main() -> None:
    """Read the options, train on two workers."""
    options = argparse.ArgumentParser()
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--storage", default=None, help="where Ray Train keeps its files")
    chosen = options.parse_args()
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"epochs": chosen.epochs, "learning_rate": 2e-3},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=chosen.storage),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
