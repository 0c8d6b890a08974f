"""A plain torch loop on scikit-learn's digits; three lines make it a run with a version.

steelyard run --model digits-loop -- python examples/own-loop/loop.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import steelyard_workflows as steelyard  # the first line

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(labels))
train, validation, test = order[:1077], order[1077:1437], order[1437:]

network = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)

for epoch in range(1, 9):
    network.train()
    total = 0.0
    for rows in train[torch.randperm(len(train))].split(64):
        loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    network.eval()
    with torch.no_grad():
        right = network(images[validation]).argmax(1) == labels[validation]
    accuracy = right.float().mean().item()
    print(f"epoch {epoch}: loss {total / len(train):.3f}, accuracy {accuracy:.4f}")
    # The second line, and the third.
    steelyard.report(epoch=epoch, loss=total / len(train), validation_accuracy=accuracy)
    steelyard.checkpoint(network, images[train][:8], (images[test], labels[test]),
                         metric="validation_accuracy", mode="max",
                         train=images[train])  # fmt: skip
