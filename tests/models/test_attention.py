"""Attention against hand-computed values and limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diet_ray.models.attention import (
    MultiHeadAttention,
    SelfAttention,
    TransformerLayer,
    masked_softmax,
    merge_heads,
    split_heads,
)
from diet_ray.models.destine import DisentangledAttention


def test_a_masked_softmax_is_over_what_is_present() -> None:
    scores = torch.tensor([[0.0, math.log(3.0), 50.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    present = torch.tensor([[True, True, False], [False, False, False]])
    scores.requires_grad_()
    share = masked_softmax(scores, present)
    assert share.tolist() == [pytest.approx([0.25, 0.75, 0.0]), [0.0, 0.0, 0.0]]
    (gradient,) = torch.autograd.grad(share[:, 0].sum(), scores)
    assert gradient.tolist() == [pytest.approx([0.1875, -0.1875, 0.0]), [0.0, 0.0, 0.0]]


def test_heads_are_parts_of_every_place() -> None:
    x = torch.arange(24.0).view(1, 2, 12)
    heads = split_heads(x, 3)
    assert heads[0, 1, 0].tolist() == [4.0, 5.0, 6.0, 7.0]
    assert torch.equal(merge_heads(heads), x)


def test_attention_to_one_field_is_that_field() -> None:
    attention = SelfAttention(4, head_size=3, num_heads=2)
    field = torch.randn(5, 1, 4)
    expected = torch.relu(attention.value(field) + attention.residual(field))
    torch.testing.assert_close(attention(field), expected)


def test_disentangled_attention_to_one_field_is_that_field_twice() -> None:
    attention = DisentangledAttention(4, head_size=3, num_heads=2)
    field = torch.randn(5, 1, 4)
    expected = 2.0 * attention.value(field) + attention.residual(field)
    torch.testing.assert_close(attention(field), expected)


def test_disentangled_attention_does_not_see_what_all_queries_share() -> None:
    torch.manual_seed(0)
    attention, fields = DisentangledAttention(4, head_size=4, num_heads=1), torch.randn(2, 3, 4)
    before = attention(fields)
    attention.query.register_forward_hook(lambda *given: given[2] + 5.0)
    torch.testing.assert_close(attention(fields), before, rtol=1e-4, atol=1e-5)


def test_what_is_absent_is_not_attended_to() -> None:
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(4, num_heads=2), torch.randn(1, 3, 4)
    found = attention(x, torch.tensor([[True, True, False]]))
    alone = attention(x[:, :2], torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found[:, :2], alone)
    nothing = attention(x, torch.zeros(1, 3, dtype=torch.bool))
    assert torch.equal(nothing, torch.zeros(1, 3, 4))


def test_a_transformer_layer_is_torchs() -> None:
    """With one head, that is; more heads are wider here."""
    torch.manual_seed(0)
    own = TransformerLayer(6, 1, 0.0, nn.ReLU())
    theirs = nn.TransformerEncoderLayer(6, 1, dim_feedforward=6, dropout=0.0, batch_first=True)
    attention = theirs.self_attn
    weights = [layer.weight for layer in (own.attention.query, own.attention.key)]
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([*weights, own.attention.value.weight]))
        attention.in_proj_bias.zero_()
        attention.out_proj.weight.copy_(own.attention.output.weight)
        attention.out_proj.bias.zero_()
    theirs.linear1.load_state_dict(own.feedforward[0].state_dict())
    theirs.linear2.load_state_dict(own.feedforward[2].state_dict())
    x = torch.randn(3, 4, 6)
    present = torch.tensor([[True, True, True, False]]).expand(3, 4)
    expected = theirs(x, src_key_padding_mask=~present)
    torch.testing.assert_close(own(x, present)[:, :3], expected[:, :3], rtol=1e-5, atol=1e-5)
