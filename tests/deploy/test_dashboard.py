"""What the dashboard asks for is what a server exports; a wrong name is an empty picture that nobody notices."""

from __future__ import annotations

import json
import re
import urllib.request
from itertools import combinations
from typing import Any

import pytest

from cleave.serving.server.triton import TritonServer
from cleave.serving.summary.metrics import METRICS
from tests.deploy.files import DEPLOY, read_yaml

DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]

OF_GPUS = ("nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes")
"""Triton's docs/user_guide/metrics.md, "GPU Metrics"; here is no GPU to export them."""

Labels = dict[str, set[str]]


@pytest.fixture(scope="module")
def exported(toy_server: TritonServer) -> Labels:
    """The labels of every series by its name."""
    with urllib.request.urlopen(toy_server.metrics_url) as answer:
        text: str = answer.read().decode()
    labels = {name: set(re.findall(r'(\w+)="', given)) for name, given in re.findall(r"^(\w+)\{(.*)\}", text, re.M)}
    labels |= {name: {"gpu_uuid"} for name in OF_GPUS}
    for metric in METRICS:
        for name in [f"{metric.name}_bucket", f"{metric.name}_count"] if metric.buckets else [metric.name]:
            labels[name] = {"model", *metric.labels} | ({"le"} if name.endswith("_bucket") else set())
    return labels


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_every_label_is_exported(expression: str, exported: Labels) -> None:
    asked = re.findall(r"\b((?:nv|cleave)_\w+)(?:\{(.*?)\})?", expression)
    grouped = {label.strip() for given in re.findall(r"by \((.*?)\)", expression) for label in given.split(",")}
    assert asked
    for name, matchers in asked:
        assert name in exported
        assert grouped | set(re.findall(r"(\w+)=~?\"", matchers)) <= exported[name], name


def test_a_legend_names_labels_of_the_result(exported: Labels) -> None:
    for target in (target for panel in PANELS for target in panel["targets"]):
        grouped = re.search(r"by \((.*?)\)", target["expr"])
        name = re.findall(r"\b(?:nv|cleave)_\w+", target["expr"])[0]
        left = set(grouped[1].split(", ")) if grouped else exported[name]
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, target["expr"]


def test_every_metric_of_the_summary_cache_is_shown() -> None:
    shown = " ".join(EXPRESSIONS)
    assert [metric.name for metric in METRICS if metric.name not in shown] == []


def test_quantiles_are_those_that_triton_exports(toy_server: TritonServer) -> None:
    quantiles = {quantile for each in EXPRESSIONS for quantile in re.findall(r'quantile="(.*?)"', each)}
    assert quantiles == {"0.5", "0.99"}
    with urllib.request.urlopen(toy_server.metrics_url) as answer:
        text = answer.read().decode()
    for quantile in quantiles:
        assert re.search(rf'^nv_inference_request_summary_us\{{.*quantile="{quantile}"\}}', text, re.M)


def test_panels_ask_the_source_that_is_provisioned() -> None:
    (datasource,) = read_yaml("grafana/datasource.yaml")["datasources"]
    source = {"type": datasource["type"], "uid": datasource["uid"]}
    assert [panel["datasource"] for panel in (*PANELS, *DASHBOARD["templating"]["list"])] == [source] * (
        len(PANELS) + 1
    )


def test_the_dashboard_is_mounted_where_grafana_looks() -> None:
    grafana = read_yaml("compose.yaml")["services"]["grafana"]
    mounted = dict(mount.removesuffix(":ro").split(":") for mount in grafana["volumes"])
    (provider,) = read_yaml("grafana/provider.yaml")["providers"]
    assert mounted["./grafana/dashboard.json"] == f"{provider['options']['path']}/dashboard.json"
    assert mounted["./grafana/dashboard.json"] == grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]


def test_panels_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = [
        {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        for at in (panel["gridPos"] for panel in PANELS)
    ]
    assert all(not one & other for one, other in combinations(cells, 2))
    assert max(x for cell in cells for x, _ in cell) == 23
