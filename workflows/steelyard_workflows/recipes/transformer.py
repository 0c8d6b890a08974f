"""A transformer layer, as the byte-level recipes use it: pre-norm, GELU, no dropout."""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


class Layer(nn.Module):
    """Attention and a feed-forward network of four times the width, each added to its input."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.before_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """[n, t, width] to the same; ``mask`` [n, 1, 1, t] is added to the scores."""
        x = x + self._attend(self.before_attention(x), mask)
        fed: torch.Tensor = self.feed(self.before_feed(x))
        return x + fed

    def _attend(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        n, t, width = x.shape
        split = self.queries_keys_values(x).view(n, t, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=self.causal
        )
        joined: torch.Tensor = self.attended(mixed.transpose(1, 2).reshape(n, t, width))
        return joined
