"""The choice of a backend: what is expected is loaded, and every fallback is announced or refused.

Where nothing was compiled is played in a subprocess by MCLREC_FAST_DISABLE_NATIVE=1.
"""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from mclrec_fast import _native
from mclrec_fast.__main__ import main
from mclrec_fast.environment import environment, report
from mclrec_fast.errors import InputError

ROOT = Path(_native.__file__).resolve().parent.parent
needs_native = pytest.mark.skipif(not _native.available(), reason=f"{_native.why_not()}")


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that imports this very package."""
    cleared = {k: v for k, v in os.environ.items() if not k.startswith("MCLREC_FAST_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**cleared, **variables},
        capture_output=True,
        text=True,
        check=True,
    )


WITHOUT_KERNELS = """
import json, os, sys, warnings
import torch
from mclrec_fast import _native, environment
from mclrec_fast.errors import InputError
from mclrec_fast.ops import gather_sequences

def refusal(call):
    try:
        call()
    except InputError as error:
        return str(error)

slices = torch.arange(5, dtype=torch.int32), torch.tensor([1]), torch.tensor([3]).int()
told = {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    told["torch"] = _native.backend("torch", "cpu", "encode")
    told["silent"] = len(caught)
    told["auto"] = [_native.backend("auto", "cpu") for _ in range(3)]
    told["items"] = gather_sequences(*slices, max_length=4).items.tolist()
    told["announced"] = [[w.category.__name__, str(w.message)] for w in caught]
told["refused"] = refusal(lambda: gather_sequences(*slices, max_length=4, backend="native"))
told["facts"] = environment.environment()
told["report"] = environment.report(told["facts"])
os.environ["MCLREC_FAST_BACKEND"] = "native"
told["refused by variable"] = refusal(lambda: _native.backend("auto", "cpu"))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def bare() -> dict[str, Any]:
    """What a process without compiled modules says."""
    told = json.loads(run(WITHOUT_KERNELS, MCLREC_FAST_DISABLE_NATIVE="1").stdout)
    assert isinstance(told, dict)
    return told


def test_native_is_used_where_it_is_expected() -> None:
    expected = os.environ.get("MCLREC_FAST_EXPECT_NATIVE", "0") not in ("", "0")
    disabled = os.environ.get("MCLREC_FAST_DISABLE_NATIVE", "0") not in ("", "0")
    if not expected and (disabled or not _native.MODULES["_C"].files()):
        pytest.skip(f"no compiled kernels are expected here: {_native.why_not()}")
    assert _native.available(), _native.why_not()
    if (ROOT / "csrc/reader.cpp").is_file():
        assert _native.MODULES["_reader"].module is not None, _native.MODULES["_reader"].reason


def test_torch_needs_nothing(bare: dict[str, Any]) -> None:
    assert bare["torch"] == "torch"
    assert bare["silent"] == 0


def test_a_fallback_is_announced_once_with_reason_and_remedy(bare: dict[str, Any]) -> None:
    assert bare["auto"] == ["torch"] * 3
    assert bare["items"] == [1, 2, 3]
    [[category, message]] = bare["announced"]
    assert category == "BackendFallbackWarning"
    assert "MCLREC_FAST_DISABLE_NATIVE is set; unset" in message


def test_native_never_falls_back(bare: dict[str, Any]) -> None:
    assert "backend='native' is not available: MCLREC_FAST_DISABLE_NATIVE" in bare["refused"]
    refusal = bare["refused by variable"]
    assert "MCLREC_FAST_BACKEND='native' is not available" in refusal


def test_report_without_anything_compiled(bare: dict[str, Any]) -> None:
    assert bare["report"].count("MCLREC_FAST_DISABLE_NATIVE is set") >= 3
    assert "operators with a kernel on cpu: none" in bare["report"]
    assert bare["facts"]["backends"]["cpu"]["auto"] == "torch"
    assert not any(module["loaded"] for module in bare["facts"]["modules"].values())


@needs_native
def test_a_missing_kernel_falls_back_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCLREC_FAST_BACKEND", raising=False)
    monkeypatch.setattr(_native, "_announced", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert _native.backend("auto", "cpu", "no_such_operator") == "torch"
        assert _native.backend("auto", "cpu", "augment_views") == "native"
    assert [w.category for w in caught] == [_native.BackendFallbackWarning]
    assert "no_such_operator has no kernel for cpu" in str(caught[0].message)
    with pytest.raises(InputError, match="no_such_operator has no kernel"):
        _native.backend("native", "cpu", "no_such_operator")


def test_unknown_words_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="backend='fast' is unknown: use auto, torch or native"):
        _native.backend("fast", "cpu")
    monkeypatch.setenv("MCLREC_FAST_BACKEND", "numpy")
    with pytest.raises(InputError, match="MCLREC_FAST_BACKEND='numpy' is unknown"):
        _native.backend("auto", "cpu")
    assert _native.backend("torch", "cpu") == "torch"


def test_other_devices_have_no_kernels() -> None:
    with pytest.raises(InputError, match="no kernels for device meta"):
        _native.backend("native", torch.device("meta"))


def cpu_flags() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split() for line in lines if line.startswith("flags")), [])


@needs_native
def test_instruction_set_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from mclrec_fast import _native as n; print(n.isa(), n.isa_problem())"
    for name in _native.usable_isa():
        assert run(code, MCLREC_FAST_ISA=name).stdout == f"{name} None\n"
    monkeypatch.setenv("MCLREC_FAST_ISA", "sse9")
    problem = _native.isa_problem()
    assert problem is not None
    assert problem.startswith("MCLREC_FAST_ISA=sse9 is not an instruction set compiled here")
    monkeypatch.setattr(_native, "_bad_isa", problem)
    with pytest.raises(InputError, match="MCLREC_FAST_ISA=sse9"):
        _native.backend("auto", "cpu")


@needs_native
def test_unasked_the_widest_set_is_used_that_suits_this_cpu() -> None:
    code = "from mclrec_fast import _native as n; print(n.isa())"
    usable = _native.usable_isa()
    if "avx512" in usable and "avx512_bf16" not in cpu_flags():
        usable.remove("avx512")
    assert run(code, MCLREC_FAST_ISA="").stdout == f"{usable[-1]}\n"


@needs_native
def test_a_set_this_cpu_lacks_is_refused_with_what_is_usable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OldCpu:
        def usable_isa(self) -> list[str]:
            return ["portable", "avx2"]

        def build_info(self) -> dict[str, list[str]]:
            return {"isa": ["portable", "avx2", "avx512"]}

    monkeypatch.setattr(_native._cpu, "module", OldCpu())
    monkeypatch.setenv("MCLREC_FAST_ISA", "avx512")
    assert _native.isa_problem() == (
        "MCLREC_FAST_ISA=avx512 cannot run on this CPU: use portable or avx2, or unset it"
    )


@needs_native
def test_use_isa_switches_and_restores() -> None:
    before = _native.isa()
    with _native.use_isa("portable"):
        assert _native.isa() == "portable"
    assert _native.isa() == before
    with pytest.raises(InputError, match="unknown instruction set sse9"), _native.use_isa("sse9"):
        pass


@needs_native
def test_multiply_add_peak() -> None:
    for name in _native.usable_isa():
        with _native.use_isa(name):
            peaks = [_native.fma_peak_gflops(threads, 0.01) for threads in (1, 2)]
        # A core does between 0.1 and 1000 GFLOP/s; a loop that was optimised away does not.
        assert all(peak is not None and 0.1 < peak < 2000 for peak in peaks)
    with pytest.raises(ValueError, match="threads must be"):
        _native.fma_peak_gflops(0)


@pytest.mark.parametrize(
    ("capability", "architectures", "covered"),
    [
        ("8.6", ["8.0"], True),
        ("8.0", ["8.6"], False),
        ("9.0", ["8.0"], False),
        ("9.0", ["8.0+PTX"], True),
        ("12.0", ["8.0", "9.0", "10.0+PTX"], True),
        ("7.5", ["8.0", "9.0", "10.0+PTX"], False),
        ("9.0", ["9.0a"], True),
        ("9.1", ["9.0a"], False),
        ("8.0", [], False),
    ],
)
def test_which_gpus_are_covered(capability: str, architectures: list[str], covered: bool) -> None:
    assert _native.covers(capability, architectures) is covered


def test_environment_says_what_is_used() -> None:
    facts = environment()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["torch"]["version"] == torch.__version__
    assert facts["modules"]["_C"]["loaded"] is _native.available()
    for module in facts["modules"].values():
        assert module["loaded"] is (module["reason"] is None)
        assert module["loaded"] or module["remedy"]
    assert set(facts["ops"]) >= {"augment_views", "gather_sequences"}
    assert facts["ops"]["augment_views"]["cpu"] is _native.has_kernel("augment_views")
    text = report(facts)
    assert torch.__version__ in text
    for module in facts["modules"].values():
        assert module["loaded"] or module["remedy"] in text


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.rstrip("\n") == report(environment())
    assert main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == environment()
