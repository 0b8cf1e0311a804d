"""Says which backend the tests run on, and skips what needs a GPU where there is none."""

import pytest
import torch

from mclrec_fast import _native


def pytest_report_header() -> list[str]:
    """The line that makes a test log worth something: what was compiled and used."""
    parts = []
    for device in ("cpu", "cuda"):
        if _native.available(device):
            detail = f" ({_native.isa()})" if device == "cpu" else ""
            parts.append(f"{device} native{detail}")
        else:
            parts.append(f"{device} torch only: {_native.why_not(device)}")
    return [f"mclrec_fast backends: {'; '.join(parts)}", f"mclrec_fast from: {_native._PACKAGE}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped, visibly, without a GPU that the kernels can use."""
    reason = None
    if not torch.cuda.is_available():
        reason = "no CUDA GPU here"
    elif not _native.available("cuda"):
        reason = f"no CUDA kernels: {_native.why_not('cuda')}"
    if reason is None:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))
