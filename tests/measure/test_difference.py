"""The layer-by-layer difference of two engines."""

from engine_samples import logged

from trtgate.measure.census import Datatype
from trtgate.measure.difference import Change, difference


def test_an_engine_does_not_differ_from_itself():
    census = logged("vit_b_16_fp16_rtx_1.6")
    rows = difference(census, census)
    assert len(rows) == census.kernels
    assert {row.change for row in rows} == {Change.SAME}
    assert all(row.base is row.other for row in rows if row.base.sources)


def test_changes_are_named_with_their_times():
    base = logged("transformer_fp16_rtx_1.6")
    gemm = next(layer for layer in base.layers if layer.kind == "gemm")
    wide = tuple(use.model_copy(update={"datatype": Datatype.FP32}) for use in gemm.inputs)
    layers = [layer for layer in base.layers if layer is not gemm]
    layers.insert(3, gemm.model_copy(update={"name": "renamed", "inputs": wide, "sources": (*gemm.sources, "extra")}))
    extra = gemm.model_copy(update={"name": "new", "sources": ("brand_new",)})
    other = base.model_copy(update={"layers": (*layers[:-1], extra)})
    rows = difference(base, other, {gemm.name: 1.0}, {"renamed": 2.0})
    (changed,) = (row for row in rows if row.change is Change.CHANGED)
    assert changed.base is gemm
    assert changed.reasons == ("reads fp32 instead of fp16", "also covers extra")
    assert (changed.base_ms, changed.other_ms) == (1.0, 2.0)
    assert [row.other.name for row in rows if row.change is Change.ADDED] == ["new"]
    assert [row.base.name for row in rows if row.change is Change.REMOVED] == [base.layers[-1].name]
    assert changed.to_json()["sources"] == [*gemm.sources, "extra"]
