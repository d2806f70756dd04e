"""Scans as ONNX graphs: no sequences and no loops, which engine builders and phones do not take."""

from __future__ import annotations

import pytest
import torch

from converters.onnx_exporters import EXPORTERS
from models.snake_scan import SnakeScan

NOT_TAKEN = {"SplitToSequence", "SequenceAt", "SequenceConstruct", "ConcatFromSequence", "Loop", "Scan", "If"}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_scan_is_plain_tensor_operations(exporter: str) -> None:
    net = SnakeScan(16, side=3, rank=2).eval()
    graph = EXPORTERS[exporter](net, torch.randn(1, 9, 16)).proto.graph
    assert {node.op_type for node in graph.node} & NOT_TAKEN == set()
