"""A real Triton takes `configs/tensorrt.pbtxt`, warm-ups included; ONNX Runtime on the processor is its TensorRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.names import TENSORRT_CONFIG, model_names, named_config_file
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.predict.arms import TRITON_ARMS
from cleave.builders.repository import write_repository
from cleave.builders.targets.tensorrt.forms import profiles_of_cut
from cleave.perf.arms import ArmClient, request_from_arrays
from cleave.serving.server import installation
from cleave.serving.server.loaded_models import check_models
from cleave.serving.server.triton import TritonServer
from tests.builders.graphs import draw

FOR_A_PROCESSOR = {"KIND_GPU": "KIND_CPU", "model.plan": "model.onnx"}


@pytest.fixture
def repository(small_cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build whose engines are the graphs beside them, run by a backend that is called as TensorRT's is."""
    write_repository(small_cut, tmp_path, "cleave build small")
    for file in tmp_path.glob(f"*/{named_config_file(TENSORRT_CONFIG)}"):
        text = file.read_text()
        for gpu, processor in FOR_A_PROCESSOR.items():
            text = text.replace(gpu, processor)
        file.write_text(text)

    def assemble(installed: installation.Installation, target: Path) -> None:
        installation.assemble_backends(installed, target)
        (target / "tensorrt").symlink_to(installation.OURS / "onnxruntime")

    monkeypatch.setattr("cleave.serving.server.triton.assemble_backends", assemble)
    # No engine is looked for, as there is neither TensorRT nor a GPU.
    monkeypatch.setattr("cleave.serving.server.triton.check_models", lambda *given: check_models(*given[:2]))
    return tmp_path


def test_triton_serves_the_configs_of_engines(small_cut: Cut, repository: Path) -> None:
    inputs = {name: array[:1] for name, array in draw(1, 7, 5).items()}
    expected = OnnxRunner(small_cut.whole)(inputs)["scores"][0]
    request = request_from_arrays(small_cut.ranker, {name: array[0] for name, array in inputs.items()})
    with TritonServer(repository, model_names(small_cut.ranker.name), config_name="tensorrt", verbose=True) as server:
        for arm in (arm for arm in TRITON_ARMS.values() if not arm.row_per_candidate):
            with ArmClient(server.grpc_url, "small", arm) as client:
                np.testing.assert_allclose(client.scores(request), expected, rtol=1e-5, atol=1e-5)
        assert server.log is not None
        log = server.log.read_text()
    for model, profiles in profiles_of_cut(small_cut).items():
        for place in range(len(profiles)):
            assert f"instance {model}_0_0 is running warmup sample 'profile_{place}'" in log
