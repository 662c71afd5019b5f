"""Engines are built, for real, by TensorRT for RTX, which needs no GPU; `tensorrt` itself by one that records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.names import BATCH
from cleave.builders.targets.tensorrt.check import COLUMNS, check_engines, table
from cleave.builders.targets.tensorrt.engine import (
    Engine,
    EngineError,
    EngineOptions,
    RefusedError,
    engine_from_onnx,
    engine_from_part,
    import_tensorrt,
)
from cleave.builders.targets.tensorrt.forms import Form, TensorRTPart, tensorrt_parts
from cleave.builders.targets.tensorrt.layers import Layer, activation_bytes, fused_attentions, layers_from_log
from cleave.builders.targets.tensorrt.profiles import Profile, ProfileRange
from tests.builders.graphs import graph
from tests.builders.targets.tensorrt.recording_tensorrt import RecordingTensorRT
from tests.tables import markdown_rows

SM89 = EngineOptions(architecture="SM89")
SHORT = Profile(
    {BATCH: ProfileRange(1, 2, 4), "history": ProfileRange(1, 32, 32), "candidates": ProfileRange(1, 16, 16)}
)
LONG = Profile(
    {BATCH: ProfileRange(1, 2, 4), "history": ProfileRange(33, 64, 64), "candidates": ProfileRange(1, 16, 16)}
)


@pytest.fixture(scope="module")
def trt() -> Any:
    return import_tensorrt("tensorrt_rtx")


def attention(dtype: str = "float16", heads: int = 2, width: int = 32) -> onnx.ModelProto:
    """Candidates read a history whose keys are kept transposed, as in append's scorer."""
    head = f"[batch,{heads}"
    model: onnx.ModelProto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]> attention (
        {dtype}{head},candidates,{width}] query, {dtype}{head},{width},history] key,
        {dtype}{head},history,{width}] value, {dtype}[batch,1,1,history] mask)
        => ({dtype}{head},candidates,{width}] read)
        {{
            [blocks_0] weights = MatMul(query, key)
            [blocks_0] masked = Add(weights, mask)
            [blocks_0] shares = Softmax<axis=-1>(masked)
            [blocks_0] read = MatMul(shares, value)
        }}"""
    )
    for node in model.graph.node:
        node.name = f"blocks.0/{node.op_type}_{node.output[0]}"
    return model


def test_attention_in_half_precision_becomes_one_kernel_in_every_profile(trt: Any) -> None:
    engine = engine_from_onnx(trt, attention(), [SHORT, LONG], SM89)
    assert len(engine.plan) > 1000
    assert engine.profiles == (SHORT, LONG)
    assert 0 < (engine.activation_bytes or 0) < 1 << 24
    assert [sorted(nodes) for nodes in engine.fused_attentions] == [
        ["blocks.0/Add_masked", "blocks.0/MatMul_read", "blocks.0/MatMul_weights", "blocks.0/Softmax_shares"]
    ]
    assert sum(layer.is_fused_attention for layer in engine.layers) == 2
    assert "Datatype: Half" in engine.layer_text


def test_attention_in_float32_builds_and_does_not_fuse(trt: Any) -> None:
    engine = engine_from_onnx(trt, attention("float"), [SHORT], SM89)
    assert engine.fused_attentions == ()
    assert {name for layer in engine.layers for name in layer.onnx_nodes} >= {"blocks.0/Softmax_shares"}


def test_a_form_that_is_refused_takes_its_profiles_along(trt: Any) -> None:
    broken = attention("float")
    broken.graph.node[2].op_type = "Det"
    part = TensorRTPart("attention", (Form(broken, (SHORT, LONG)), Form(attention("float"), (SHORT,))))
    engine = engine_from_part(trt, part, SM89)
    assert engine.profiles == (SHORT,)
    assert ["(Det)" in refusal for refusal in engine.refusals] == [True]


def test_a_node_that_tensorrt_does_not_take_is_named(trt: Any) -> None:
    model = attention("float")
    model.graph.node[2].op_type = "Det"
    with pytest.raises(RefusedError, match=r"attention: blocks\.0/Softmax_shares \(Det\): expected a node that Tensor"):
        engine_from_onnx(trt, model, [SHORT], SM89)


def test_sizes_that_contradict_each_other_are_refused_in_words(trt: Any) -> None:
    model = attention("float")
    model.graph.input[2].type.tensor_type.shape.dim[2].dim_param = "candidates"
    with pytest.raises(
        RefusedError, match=r"attention: TensorRT .* cannot compile the graph: .+; change what it names"
    ):
        engine_from_onnx(trt, model, [SHORT], SM89)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineOptions(), "tensorrt_rtx: expected an architecture, got None"),
        (EngineOptions("SM1"), "--architectures: expected some of SM80, SM86, SM89, SM120, got 'SM1'"),
        (EngineOptions("SM89", timing_cache=Path("x")), "tensorrt_rtx: it has no timing_cache; leave it out"),
        (EngineOptions("SM89", version_compatible=True), "tensorrt_rtx: it has no version_compatible; leave it out"),
    ],
)
def test_options_that_the_check_does_not_have_are_refused(options: EngineOptions, words: str, trt: Any) -> None:
    with pytest.raises(EngineError, match=words):
        engine_from_onnx(trt, attention("float"), [SHORT], options)


def test_a_missing_tensorrt_says_where_it_is() -> None:
    with pytest.raises(EngineError, match=r"tensorrt: expected it to be installed, got .*; run this in the container"):
        import_tensorrt("tensorrt")


def test_tensorrt_itself_gets_every_option(trt: Any, tmp_path: Path) -> None:
    recording = RecordingTensorRT(trt)
    cache = tmp_path / "timings"
    options = EngineOptions(
        memory_limit_bytes=1 << 30, timing_cache=cache, version_compatible=True, hardware_compatible=True
    )
    for _ in range(2):
        assert engine_from_onnx(recording, attention(), [SHORT], options).plan == b"plan"
    first, second = recording.configs
    assert first.calls == {
        "memory": (trt.MemoryPoolType.WORKSPACE, 1 << 30),
        "flag": trt.BuilderFlag.VERSION_COMPATIBLE,
        "timing_cache": (b"measured before: ", False),
        "cleared": trt.BuilderFlag.TF32,
    }
    assert first.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert first.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert second.calls["timing_cache"] == (b"measured before: measured now", False)


@pytest.mark.parametrize("timings", [b"damaged", b"measured elsewhere"])
def test_timings_that_are_of_no_use_are_measured_again(
    timings: bytes, trt: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, cache = RecordingTensorRT(trt), tmp_path / "timings"
    cache.write_bytes(timings)
    engine_from_onnx(recording, attention(), [SHORT], EngineOptions(timing_cache=cache))
    assert recording.configs[0].calls["timing_cache"] == (b"measured before: ", False)
    assert capsys.readouterr().err == f"{cache}: of another TensorRT or GPU, so that everything is measured again\n"
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("timings", b"measured now")]


def test_tensorrt_itself_builds_for_its_own_gpu_only(trt: Any) -> None:
    with pytest.raises(EngineError, match="tensorrt: expected none, as engines are built for the GPU of this machine"):
        engine_from_onnx(RecordingTensorRT(trt), attention(), [SHORT], SM89)


def test_layers_are_read_from_the_log() -> None:
    log = [
        "Engine generation completed.",
        "Layers:\n"
        "Name: __myl_Move_myl0_1, LayerType: kgen, Inputs: [ { Name: x, } ], StreamId: 0, Metadata: \n"
        "Name: _gemm_mha_v2_myl0_2, LayerType: kgen, Inputs: [], StreamId: 0, "
        "Metadata: [ONNX Layer: a/MatMul][ONNX Layer: a/Softmax][ONNX Layer: a/MatMul]\n"
        "\nI/O Tensors:\n Name: query, IOMode: Input",
    ]
    assert layers_from_log(log) == (
        Layer("__myl_Move_myl0_1", "kgen", ()),
        Layer("_gemm_mha_v2_myl0_2", "kgen", ("a/MatMul", "a/Softmax")),
    )
    assert layers_from_log(log[:1]) == ()


def test_the_memory_to_run_is_that_of_the_largest_profile() -> None:
    log = ["Total Activation Memory: 23003648", "Total Weights Memory: 7", "Total Activation Memory: 19327418880 bytes"]
    assert activation_bytes(log) == 19327418880
    assert activation_bytes(log[1:2]) is None


def test_an_attention_counts_if_every_profile_fuses_it() -> None:
    a, b = (Layer(f"_gemm_mha_v2_myl{place}_1", "kgen", (name,)) for place, name in enumerate("ab"))
    other = Layer("__myl_Alpha_myl0_3", "kgen", ("a",))
    assert fused_attentions([a, b, a, other], 2) == (("a",),)
    assert fused_attentions([a, b], 1) == (("a",), ("b",))


def test_operators_on_bits_are_refused_by_the_name_of_their_module(trt: Any) -> None:
    model = graph("mixed = BitwiseXor(ids, one) row = Cast<to=1>(mixed) scores = Cast<to=1>(items)")
    with pytest.raises(RefusedError) as raised:
        engine_from_onnx(trt, model, [], SM89)
    assert str(raised.value) == (
        "graph: model/BitwiseXor_0 (BitwiseXor): expected operators that TensorRT has, got one on the bits of "
        "integers; let module 'model' hash by products, remainders and divisions, as ids * 2654435761 % n, or leave it "
        "to ONNX Runtime"
    )


def test_the_check_of_a_cut(small_cut: Cut, tmp_path: Path, trt: Any) -> None:
    parts = [part for part in tensorrt_parts(small_cut) if part.name != "small_whole"]
    broken = onnx.ModelProto()
    broken.CopyFrom(parts[0].forms[0].model)
    broken.graph.node[0].op_type = "Det"
    parts.append(TensorRTPart("broken", (Form(broken, parts[0].forms[0].profiles),)))
    checks = list(check_engines(parts, "float32", ["SM89"], tmp_path / "layers"))
    assert [check.part for check in checks] == ["small_history_encoder", "small_candidate_scorer", "broken"]
    for check in checks[:2]:
        assert check.refusal == ""
        assert check.engine_bytes > 1000
        assert (tmp_path / "layers" / f"{check.part}-SM89.txt").read_text().startswith("Layers:\nName: ")
    assert "(Det)" in checks[2].refusal
    rows = markdown_rows(table(checks))
    assert rows[0] == list(COLUMNS)
    assert rows[2][:3] == ["small_candidate_scorer", "float32", "SM89"]
    assert rows[3] == ["broken", "float32", "SM89", str(len(parts[0].forms[0].profiles)), "refused", "", "", ""]


def test_an_engine_without_layers_has_no_fused_attention() -> None:
    assert Engine(b"", (), "", (SHORT,), 0.0).fused_attentions == ()
