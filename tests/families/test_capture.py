"""Attention of ten families, compared with what tiny random models of them compute and return."""

import pytest
import torch

from benchmarks.tiny_families import HEADS, QUERIES, tiny_model
from detr_lite.families.anatomy import DENSE, GROUPED, HYBRID, anatomy_of
from detr_lite.families.capture import AttentionCapture
from detr_lite.families.registry import FAMILIES
from detr_lite.structures import AttentionSelection, DetrLiteError
from tests.helpers.captures import cached_model, captured, inputs, keywords

pytestmark = pytest.mark.slow

DEFORMABLE = tuple(family for family in FAMILIES if family not in DENSE)
VARIANTS = (
    *((family, ()) for family in DEFORMABLE),
    *((family, (("decoder_method", "discrete"),)) for family in ("rt_detr_v2", "d_fine", "deimv2")),
    *((family, (("decoder_n_points", (3, 6, 2)),)) for family in ("d_fine", "deimv2")),
    ("lw_detr", (("decoder_cross_attention_heads", 2 * HEADS),)),
    ("deformable_detr", (("two_stage", True), ("two_stage_num_proposals", QUERIES))),
)
"""Deformable families, and settings that change how points are sampled."""


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@torch.no_grad()
def by_module(network, family):
    """For each decoder layer the values of tokens (batch token head dim), and the output before its projection."""
    found, handles = {}, []
    for layer, module in enumerate(anatomy_of(network).cross):
        if hasattr(module, "attn"):
            hook = module.attn.register_forward_hook(
                lambda _, args, output, layer=layer: found.__setitem__(layer, (args[0], output))
            )
            handles.append(hook)
        elif family == "rt_detr_v2":

            def read(module, args, kwargs, layer=layer):
                values = module.value_proj(kwargs["encoder_hidden_states"])
                found[layer] = [values.unflatten(-1, (module.n_heads, -1)), None]

            handles.append(module.register_forward_pre_hook(read, with_kwargs=True))
            handles.append(
                module.output_proj.register_forward_pre_hook(
                    lambda _, args, layer=layer: found[layer].__setitem__(1, args[0])
                )
            )
        else:

            def read(module, args, kwargs, output, layer=layer):
                found[layer] = (kwargs["encoder_hidden_states"].unflatten(-1, (module.n_heads, -1)), output[0])

            handles.append(module.register_forward_hook(read, with_kwargs=True))
    network(**inputs(family)[0])
    for handle in handles:
        handle.remove()
    return [found[layer] for layer in range(len(found))]


@pytest.mark.parametrize(("family", "settings"), VARIANTS)
@pytest.mark.stress
def test_rows_times_values_are_the_output_of_deformable_attention(family, settings):
    network = tiny_model(family, **keywords(settings))
    with torch.no_grad():  # so that many points lie beyond the border
        for module in anatomy_of(network).cross:
            module.sampling_offsets.weight.mul_(4)
    maps, _ = captured(network, family)
    reference = by_module(network, family)
    assert len(maps.cross) == len(reference)
    for rows, (values, output) in zip(maps.cross, reference, strict=True):
        torch.testing.assert_close(
            torch.einsum("bhqt,bthd->bqhd", rows, values).flatten(2), output, atol=1e-5, rtol=1e-5
        )
    sums = maps.cross.sum(-1)
    torch.testing.assert_close(sums, 1 - maps.sampled.outside)
    assert (sums <= 1 + 1e-5).all()
    is_discrete = ("decoder_method", "discrete") in settings
    assert bool(maps.sampled.outside.max() > 0.05) is not is_discrete
    assert ((maps.sampled.points < 0) | (maps.sampled.points > 1)).any()  # beyond the border
    torch.testing.assert_close(maps.sampled.weights.sum(-1), torch.ones_like(sums))


@pytest.mark.parametrize("family", DEFORMABLE)
def test_points_are_where_the_tokens_lie_that_get_their_weight(family):
    """Interpolation keeps the center of mass, so long as nothing falls outside."""
    network = tiny_model(family, seed=1)
    with torch.no_grad():  # so that most points lie within
        for module in anatomy_of(network).cross:
            module.sampling_offsets.weight.mul_(0.01)
            module.sampling_offsets.bias.mul_(0.02)
    maps, _ = captured(network, family)
    assert maps.sampled.level.tolist() == sorted(maps.sampled.level.tolist())
    assert maps.sampled.level.unique().tolist() == list(range(len(maps.grids)))
    centers = []
    for level, (height, width) in enumerate(maps.grids):
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        centers.append(torch.stack([x, y], -1).flatten(0, 1)[None] / maps.spans[:, None, level])
    from_tokens = torch.einsum("lbhqt,btc->lbhqc", maps.cross, torch.cat(centers, 1))
    from_points = (maps.sampled.weights[..., None] * maps.sampled.points).sum(-2)
    is_whole = maps.sampled.outside < 1e-7
    assert is_whole.any()
    torch.testing.assert_close(from_tokens[is_whole], from_points[is_whole], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_dense_attention_is_what_the_model_returns(family, implementation):
    """Under eager attention models return weights; under fused attention there are none to return."""
    eager = cached_model(family, (("attn_implementation", "eager"),))
    with torch.no_grad():
        expected = eager(**inputs(family)[0], output_attentions=True)
    network = eager if implementation == "eager" else cached_model(family)
    assert family == "dab_detr" or network.config._attn_implementation == implementation
    maps, _ = captured(network, family)
    queries = expected.attentions if family in GROUPED else expected.decoder_attentions
    torch.testing.assert_close(maps.queries, torch.stack(queries), atol=1e-6, rtol=1e-4)
    if family in DENSE:
        torch.testing.assert_close(maps.cross, torch.stack(expected.cross_attentions), atol=1e-6, rtol=1e-4)
        assert maps.sampled is None
    if family in (*DENSE, *HYBRID):
        torch.testing.assert_close(maps.encoder, torch.stack(expected.encoder_attentions), atol=1e-6, rtol=1e-4)
    else:
        assert maps.encoder.shape[:3] == (0, 2, HEADS)
    height, width = maps.encoder_grids[-1]
    assert maps.encoder.shape[-1] == height * width


def test_a_selection_is_a_slice_of_the_whole(family):
    network = cached_model(family)
    whole, _ = captured(network, family)
    layers, heads, queries = [-1, 0], [2, -4], [7, 0, -1]
    maps, output = captured(network, family, AttentionSelection(layers, heads, queries))
    torch.testing.assert_close(maps.cross, whole.cross[layers][:, :, heads][:, :, :, queries])
    torch.testing.assert_close(maps.queries, whole.queries[layers][:, :, heads][:, :, :, queries])
    torch.testing.assert_close(maps.encoder, whole.encoder[:, :, heads])
    if maps.sampled is not None:
        for name in ("points", "weights", "outside"):
            expected = getattr(whole.sampled, name)[layers][:, :, heads][:, :, :, queries]
            torch.testing.assert_close(getattr(maps.sampled, name), expected)
    mean, again = captured(network, family, AttentionSelection(layers=[], queries=[1], encoder_mean=True))
    assert torch.equal(output.logits, again.logits)
    assert mean.cross.shape == (0, 2, HEADS, 1, whole.cross.shape[-1])
    assert mean.queries.shape == (0, 2, HEADS, 1, QUERIES)
    torch.testing.assert_close(mean.encoder, whole.encoder.mean(2, keepdim=True))
    assert mean.sampled is None or mean.sampled.points.shape == (0, 2, HEADS, 1, len(whole.sampled.level), 2)
    none, _ = captured(network, family, AttentionSelection(heads=[], queries=[], encoder_layers=[]))
    assert none.cross.shape == (len(whole.cross), 2, 0, 0, whole.cross.shape[-1])


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (AttentionSelection(layers=[9]), "there is no decoder layer 9; this model has"),
        (AttentionSelection(heads=[-5]), f"there is no head -5; this model has {HEADS}, counted from 0"),
        (AttentionSelection(queries=[QUERIES]), f"there is no query {QUERIES}; this model has {QUERIES}"),
        (AttentionSelection(encoder_layers=[3]), "there is no encoder layer 3; this model has"),
    ],
)
def test_what_does_not_exist_is_an_error(family, selection, message):
    with pytest.raises(DetrLiteError, match=message):
        captured(cached_model(family), family, selection)


STRIDES = {
    **dict.fromkeys(DENSE, (32,)),
    "deformable_detr": (8, 16, 32, 64),
    **dict.fromkeys(HYBRID, (8, 16, 32)),
    "lw_detr": (8, 32),
    "rf_detr": (16,),
}


def test_tokens_in_padding_are_marked(family):
    maps, _ = captured(cached_model(family), family)
    height, width = inputs(family)[0]["pixel_values"].shape[2:]
    strides = torch.tensor(STRIDES[family])[:, None]
    expected = torch.stack([torch.tensor([width, height]) / strides, torch.tensor([50, 40]) / strides])
    torch.testing.assert_close(maps.spans, expected)
    assert maps.is_padding.shape == (2, sum(height * width for height, width in maps.grids))
    assert not maps.is_padding[0].any()
    assert maps.is_padding[1].any()
    on_padding = maps.cross[:, 1][..., maps.is_padding[1]]
    assert bool(on_padding.any()) is (family in HYBRID)  # which take no mask: their tokens of padding have values


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in HYBRID])
def test_tokens_in_padding_are_those_that_the_network_masks(family):
    network = cached_model(family)
    maps, _ = captured(network, family)
    features = []
    handle = network.model.backbone.register_forward_hook(lambda _, args, output: features.append(output))
    with torch.no_grad():
        network(**inputs(family)[0])
    handle.remove()
    [features] = features
    if family == "rf_detr":
        features = [features]
    elif family in DENSE:
        features = features[0][-1:] if family == "dab_detr" else features[-1:]
    may_attend = torch.cat([mask.flatten(1) for _, mask in features], 1).bool()
    assert torch.equal(maps.is_padding[:, : may_attend.shape[1]], ~may_attend)


def test_padding_of_another_size_is_refused():
    batch, is_padding = inputs("detr")
    network = cached_model("detr")
    with torch.no_grad(), AttentionCapture(network) as capture:
        network(**batch)
    with pytest.raises(ValueError, match="does not fit"):
        capture.maps(is_padding[:, 1:])


def test_self_attention_with_another_number_of_heads_is_returned_whole():
    network = cached_model("lw_detr", (("decoder_cross_attention_heads", 2 * HEADS),))
    whole, _ = captured(network, "lw_detr")
    maps, _ = captured(network, "lw_detr", AttentionSelection(heads=[7, 0]))
    assert torch.equal(maps.cross, whole.cross[:, :, [7, 0]])
    assert torch.equal(maps.queries, whole.queries)
    assert maps.queries.shape[2] == HEADS


@pytest.mark.parametrize("family", ["detr", "rt_detr_v2", "lw_detr"])
def test_half_precision(family):
    network = tiny_model(family).bfloat16()
    batch, is_padding = inputs(family)
    batch["pixel_values"] = batch["pixel_values"].bfloat16()
    with torch.no_grad(), AttentionCapture(network) as capture:
        network(**batch)
    maps = capture.maps(is_padding)
    torch.testing.assert_close(
        maps.cross.sum(-1).float(),
        torch.ones(maps.cross.shape[:-1]) - (0 if maps.sampled is None else maps.sampled.outside),
        atol=0.02,
        rtol=0,
    )


@pytest.mark.parametrize("family", HYBRID)
def test_an_encoder_without_attention_has_no_maps(family):
    maps, _ = captured(cached_model(family, (("encoder_layers", 0),)), family)
    assert maps.encoder.shape == (0, 2, HEADS, 4, 4)
    assert maps.encoder_grids == maps.grids[-1:]


@pytest.mark.parametrize("family", ["rt_detr", "deimv2"])
def test_of_an_encoder_with_attention_in_several_levels_the_coarsest_is_shown(family):
    maps, _ = captured(cached_model(family, (("encode_proj_layers", (1, 2)),)), family)
    assert maps.encoder.shape == (1, 2, HEADS, 4, 4)


def test_samples_move_with_their_maps():
    maps, _ = captured(cached_model("rt_detr"), "rt_detr")
    moved = maps.to("meta")
    assert moved.cross.is_meta
    assert all(value.is_meta for value in vars(moved.sampled).values())


def test_an_unknown_family_is_an_error():
    class Other(torch.nn.Module):
        config = type("Config", (), {"model_type": "yolos"})

    with pytest.raises(DetrLiteError, match="yolos cannot be shown; families that can: detr, conditional_detr"):
        AttentionCapture(Other())
