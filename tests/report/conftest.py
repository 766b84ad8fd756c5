"""Rows that every form of a report has to print."""

import pytest
from spans import span

from trtgate.report.rows import ParityCell, Row


@pytest.fixture
def rows():
    cells = {"eager": span(3.33), "eager_graph": span(2.11), "inductor": span(1.5)}
    return [
        Row(
            "mobilenet_v3_small-tensorrt_engine-fp16-b1-graph",
            device_s=span(0.213e-3),
            latency_s=span(0.25e-3),
            throughput_per_s=span(4695.0),
            device_speedups=cells,
            latency_speedups={"eager": span(13.9), "eager_graph": span(2.0), "inductor": span(123.4)},
            parity=ParityCell(4.1e-4, 1.2e-3),
            verdict="incomparable",
            note="Recorded on another driver.",
        ),
        Row("mobilenet_v3_small-torch_tensorrt-fp16-b1-stream", verdict="failed", note="Parity [logits] failed."),
        Row("resnet18-eager-fp16-b8s128-stream-cold", device_s=span(0.84e-3), verdict="passed"),
    ]
