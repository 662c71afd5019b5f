from __future__ import annotations

from pathlib import Path

from cleave.serving.server.log import failure_from_log, tail

LOADING = """\
I1122 00:17:54.201209 1 model_lifecycle.cc:472] "loading: toy_whole:1"
E1122 00:17:54.201313 1 model_lifecycle.cc:642] "failed to load '{model}' version 1: {reason}"
I1122 00:17:54.201339 1 model_lifecycle.cc:777] "failed to load '{model}'"
+-------+
| Model |

error: creating server: Internal - failed to load all models
"""


def _log(folder: Path, text: str) -> Path:
    file = folder / "log"
    file.write_text(text)
    return file


def test_a_model_s_reason_stands_alone_without_the_place_in_the_backend(tmp_path: Path) -> None:
    reason = (
        r"Internal: TritonModelException: model 'a': too old; build\n\nAt:\n  /backends/onnxruntime/model.py(24): x"
    )
    log = _log(tmp_path, LOADING.format(model="a", reason=reason))
    assert failure_from_log(log, 1) == "model 'a': too old; build"


def test_a_reason_without_the_model_gets_it(tmp_path: Path) -> None:
    log = _log(tmp_path, LOADING.format(model="a", reason="Invalid argument: no backend 'nope'"))
    assert failure_from_log(log, 1) == "model 'a': no backend 'nope'"


def test_every_model_that_failed_is_named(tmp_path: Path) -> None:
    text = "".join(LOADING.format(model=model, reason="Internal: broken") for model in "ab")
    assert failure_from_log(_log(tmp_path, text), 1) == "model 'a': broken; model 'b': broken"


def test_a_failure_of_no_model_is_what_triton_said_last(tmp_path: Path) -> None:
    text = "W1 x] warning\nerror: creating server: Invalid argument - load failed for model 'a': no model 'b';\n"
    assert failure_from_log(_log(tmp_path, text), 1) == "tritonserver: load failed for model 'a': no model 'b'"


def test_a_signal_is_named_with_the_last_lines(tmp_path: Path) -> None:
    text = "\n".join(["one", "+--+", "| a |", "", "two"])
    assert failure_from_log(_log(tmp_path, text), -11) == "tritonserver: ended by SIGSEGV; its last lines:\none\ntwo"


def test_any_other_end_is_shown_with_its_code(tmp_path: Path) -> None:
    assert failure_from_log(tmp_path / "none", 3) == "tritonserver: ended with code 3; its last lines:\n"


def test_the_tail_is_short(tmp_path: Path) -> None:
    assert tail(_log(tmp_path, "\n".join(map(str, range(100))))).splitlines() == [str(i) for i in range(85, 100)]
