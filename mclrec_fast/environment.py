"""What was built, what is used and why not more: the facts behind `python -m mclrec_fast`.

`environment()` collects them as json-able values (a run keeps them as env.json); `report()` puts
them into words. Nothing here changes anything.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from . import __version__, _native, _precision
from . import ops as _ops  # noqa: F401  (defines the operators)

_TITLES = {"_C": "CPU kernels", "_C_cuda": "CUDA kernels", "_reader": "log reader"}
_FEATURES = ("avx", "fma", "avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
_VARIABLES = (
    "MCLREC_FAST_BACKEND",
    "MCLREC_FAST_ISA",
    "MCLREC_FAST_DISABLE_NATIVE",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)


def environment() -> dict[str, Any]:
    """Collect the facts.

    Returns:
        A json-able dict: version, commit (that the kernels were built of; None if not known),
        package, python, platform, cpu, torch, gpus, modules (each with built, loaded, file, reason,
        remedy and what it was built for), backends (what "auto" means per device), precisions (what
        products may round to then), ops (which have kernels), variables, problems.
    """
    backends = {device: _auto(device) for device in _devices()}
    return {
        "version": __version__,
        "commit": _native.build_record().get("commit"),
        "package": str(Path(__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "torch": {
            "version": torch.__version__,
            "cuda": torch.version.cuda,
            "threads": torch.get_num_threads(),
        },
        "gpus": _gpus(),
        "modules": {name: _module(name) for name in _TITLES},
        "backends": backends,
        "precisions": {
            device: _precision.usable(device, choice["auto"]) for device, choice in backends.items()
        },
        "ops": {
            name: {device: _native.has_kernel(name, device) for device in ("cpu", "cuda")}
            for name in _operators()
        },
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "problems": [problem for problem in (_native.isa_problem(),) if problem],
    }


def _cpu() -> dict[str, Any]:
    model, flags = _native.cpu_model()
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    features = [name for name in _FEATURES if name in flags]
    return {"model": model, "usable_cores": usable, "features": features}


def _gpus() -> list[dict[str, Any]]:
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = f"{properties.major}.{properties.minor}"
        covered = _native.covers(capability, _native.cuda_architectures())
        found.append({"name": properties.name, "capability": capability, "covered": covered})
    return found


def _module(name: str) -> dict[str, Any]:
    module = _native.MODULES[name]
    recorded = _native.build_record().get("modules", {}).get(name, {})
    facts: dict[str, Any] = {
        "built": bool(module.files()),
        "loaded": module.module is not None,
        "file": next((str(path) for path in module.files()), None),
        "reason": module.reason,
        "remedy": module.remedy,
    }
    if name == "_C" and module.module is not None:
        facts |= {
            "compiler": module.module.build_info()["compiler"],
            "torch": module.module.build_info()["torch"],
            "instruction_sets": {
                "compiled": module.module.build_info()["isa"],
                "usable": module.module.usable_isa(),
                "used": module.module.isa(),
            },
        }
    if name == "_C_cuda":
        facts |= {key: recorded[key] for key in ("architectures", "toolkit") if key in recorded}
    return facts


def _devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _auto(device: str) -> dict[str, Any]:
    """What backend="auto" does with tensors on this device, and why."""
    wanted = os.environ.get("MCLREC_FAST_BACKEND", "")
    if wanted == "torch":
        return {"auto": "torch", "reason": "MCLREC_FAST_BACKEND=torch"}
    reason = _native.why_not(device)
    return {"auto": "torch" if reason else "native", "reason": reason}


def _operators() -> list[str]:
    """Low-level operators that want a kernel, by name; those written in Python are left out."""
    prefix = f"{_native.NAMESPACE}::"
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith(prefix)]
    in_python = torch._C._dispatch_has_kernel_for_dispatch_key
    return sorted(
        name.removeprefix(prefix)
        for name in names
        if not in_python(name, "CompositeExplicitAutograd")
    )


def report(facts: dict[str, Any]) -> str:
    """The facts as a page of text."""
    cpu, torch_facts = facts["cpu"], facts["torch"]
    cuda = f"CUDA {torch_facts['cuda']}" if torch_facts["cuda"] else "without CUDA"
    commit = f", built of commit {facts['commit']}" if facts["commit"] else ""
    lines = [
        f"mclrec_fast {facts['version']}{commit}  ({facts['package']})",
        f"  python    {facts['python']}, {facts['platform']}",
        f"  torch     {torch_facts['version']}, {cuda}, {torch_facts['threads']} threads",
        f"  cpu       {cpu['model']}, {cpu['usable_cores']} usable cores, "
        f"{' '.join(cpu['features']) or 'no vector extensions known'}",
    ]
    for gpu in facts["gpus"]:
        state = "" if gpu["covered"] else ", not covered by the compiled architectures"
        lines.append(f"  gpu       {gpu['name']}, compute capability {gpu['capability']}{state}")
    lines += ["", "compiled parts"]
    for name, module in facts["modules"].items():
        lines += _module_lines(f"{_TITLES[name]} ({name})", module)
    lines += ["", 'used by backend="auto"']
    for device, choice in facts["backends"].items():
        reason = f" ({choice['reason']})" if choice["reason"] else ""
        lines.append(f"  {device:<9} {choice['auto']}{reason}")
        lines.append(f"            precision: {', '.join(facts['precisions'][device])}")
    lines += ["", *_operator_lines(facts["ops"], list(facts["backends"]))]
    if facts["variables"]:
        lines += ["", "environment variables"]
        lines += [f"  {name}={value}" for name, value in facts["variables"].items()]
    lines += [f"\nproblem: {problem}" for problem in facts["problems"]]
    return "\n".join(lines)


def _module_lines(title: str, module: dict[str, Any]) -> list[str]:
    if module["loaded"]:
        lines = [f"  {title}: loaded"]
    else:
        built = "built, but not used" if module["built"] else "not built"
        lines = [f"  {title}: {built}: {module['reason']}"]
        lines.append(f"      to have it: {module['remedy']}")
    if "compiler" in module:
        sets = module["instruction_sets"]
        lines.append(f"      by {module['compiler']} against torch {module['torch']}")
        lines.append(
            f"      instruction sets: {', '.join(sets['compiled'])} compiled; "
            f"{', '.join(sets['usable'])} usable here; {sets['used']} used"
        )
    if "architectures" in module:
        lines.append(f"      GPU architectures: {', '.join(module['architectures'])}")
    return lines


def _operator_lines(operators: dict[str, dict[str, bool]], devices: list[str]) -> list[str]:
    lines = []
    for device in devices:
        have = [name for name, kernels in operators.items() if kernels[device]]
        lack = [name for name in operators if name not in have]
        lines.append(f"operators with a kernel on {device}: {', '.join(have) or 'none'}")
        if lack:
            lines.append(f"operators in plain PyTorch on {device}: {', '.join(lack)}")
    return lines
