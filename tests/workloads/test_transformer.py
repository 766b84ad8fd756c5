import pytest
import torch
from torch import nn

from trtgate.errors import UsageError
from trtgate.workloads import conditioning, weights
from trtgate.workloads.transformer import Dimensions, Encoder, Layer, Transformer

SMALL = Dimensions(layers=3, hidden=64, heads=4, intermediate=128, vocabulary=2000, positions=48)


@pytest.fixture(scope="module")
def workload() -> Transformer:
    return Transformer(SMALL)


def test_the_registered_encoder_has_the_size_of_bert_base():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Encoder(Dimensions()).parameters())
    # google-bert/bert-base-uncased has 109,482,240; its two token types of 768 are not here.
    assert count == 109_482_240 - 2 * 768


def test_a_layer_is_torchs_own_encoder_layer():
    ours = weights.frozen(Layer(SMALL))
    weights.fill(ours, 1)
    torchs = weights.frozen(
        nn.TransformerEncoderLayer(64, 4, 128, dropout=0, activation="gelu", layer_norm_eps=1e-12, batch_first=True)
    )
    attention = ours.attention
    projections = (attention.query, attention.key, attention.value)
    torchs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([layer.weight for layer in projections]),
            "self_attn.in_proj_bias": torch.cat([layer.bias for layer in projections]),
            "self_attn.out_proj.weight": attention.output.weight,
            "self_attn.out_proj.bias": attention.output.bias,
            "linear1.weight": ours.intermediate.weight,
            "linear1.bias": ours.intermediate.bias,
            "linear2.weight": ours.output.weight,
            "linear2.bias": ours.output.bias,
            "norm1.weight": ours.attention_norm.weight,
            "norm1.bias": ours.attention_norm.bias,
            "norm2.weight": ours.output_norm.weight,
            "norm2.bias": ours.output_norm.bias,
        }
    )
    states = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(states), torchs(states), rtol=1e-4, atol=1e-5)


def test_outputs_are_what_the_workload_names(workload):
    states, pooled = workload.module()(*workload.inputs(3, 16, seed=0))
    assert len(workload.output_names) == 2
    assert states.shape == (3, 16, 64)
    assert pooled.shape == (3, 64)
    assert float(pooled.abs().max()) <= 1


def test_outputs_tell_sentences_apart(workload):
    for output in workload.module()(*workload.inputs(8, 32, seed=0)):
        assert conditioning.spread(output) > 0.1


def test_modules_are_equal_and_frozen_and_the_fingerprint_names_the_weights(workload):
    assert weights.digest(workload.module()) == weights.digest(workload.module())
    assert not any(parameter.requires_grad for parameter in workload.module().parameters())
    assert not workload.module().training
    assert workload.fingerprint == Transformer(SMALL).fingerprint
    assert workload.fingerprint != Transformer(Dimensions(2, 64, 4, 128, 2000, 48)).fingerprint


def test_inputs_are_sentences_between_marks(workload):
    (ids,) = workload.inputs(4, 12, seed=3)
    assert ids.dtype == torch.int64
    assert ids.shape == (4, 12)
    assert ids[:, 0].tolist() == [101] * 4
    assert ids[:, -1].tolist() == [102] * 4
    assert int(ids[:, 1:-1].min()) >= 999
    assert int(ids.max()) < 2000
    assert torch.equal(ids, workload.inputs(4, 12, seed=3)[0])
    assert not torch.equal(ids, workload.inputs(4, 12, seed=4)[0])


def test_the_default_length_is_taken_where_none_is_given(workload):
    assert workload.default_sequence == 48
    assert Transformer().default_sequence == 128
    assert workload.inputs(1, None, seed=0)[0].shape == (1, 48)


@pytest.mark.parametrize(("sequence", "says"), [(49, "Use at most 48 tokens"), (0, "at least 1 token")])
def test_lengths_out_of_range_are_refused(workload, sequence, says):
    with pytest.raises(UsageError, match=says):
        workload.inputs(1, sequence, seed=0)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="5 heads do not divide the hidden size 64"):
        Transformer(Dimensions(hidden=64, heads=5))
