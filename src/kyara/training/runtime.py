"""Device, precision and compilation settings of PyTorch."""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["32", "bf16"]


def pick_device(device: str) -> torch.device:
    """The device with this name; `auto` is the GPU if available. Raises ValueError if it is not available."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|(cuda|mps|xpu)(:\d+)?", str(device)):
        raise ValueError(f"--device {device}: not a device; use auto, cpu, cuda or cuda:N")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: not usable here ({error}); use --device auto or cpu") from error
    return torch.device(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device supports bfloat16 natively, without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def pick_precision(wanted: Literal["auto", "32", "bf16"], device: torch.device) -> Precision:
    """Resolves `auto` to bf16 where the device supports it natively, else 32."""
    return wanted if wanted != "auto" else "bf16" if has_bfloat16(device) else "32"


def count_processes(devices: int) -> tuple[int, int]:
    """Processes on each machine, and machines: those that torchrun has started, or else `devices` on this one.
    ValueError if --devices says something else than torchrun."""
    if not (torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()):
        return devices, 1
    here, everywhere = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if devices not in (1, here):
        raise ValueError(f"--devices {devices}: torchrun has started {here} processes here; leave the option out")
    if everywhere % here:
        raise ValueError(
            f"torchrun: {everywhere} processes in all, {here} here; start the same number on every machine"
        )
    return here, everywhere // here


def make_fabric(device: torch.device, *, devices: int = 1, machines: int = 1, precision: Precision = "32") -> Fabric:
    """Fabric on `device`, or on several devices of its type, on each of several machines. Raises ValueError if
    there are too few."""
    from lightning_fabric import Fabric  # imports much that only training needs

    if device.index is not None and devices > 1:
        raise ValueError(f"--devices {devices}: --device {device} is one device; use --device {device.type}")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"--devices {devices}: there are {torch.cuda.device_count()} CUDA devices here")
    # Input shapes are constant, so cuDNN benchmarks its algorithms once. TF32 is disabled, as it would round the inputs
    # of every convolution to 10 bits; use bf16 for speed.
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it prints the precision
    return Fabric(
        accelerator=device.type,
        devices=devices if device.index is None else [device.index],
        num_nodes=machines,
        strategy="ddp" if devices * machines > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )


def make_profiler(path: Path) -> torch.profiler.profile:
    """A profiler that writes the steps 46 to 65 to `path` as a trace, when CUDA graphs are captured and caches warm.
    Call its `step` after every step."""
    return torch.profiler.profile(
        schedule=torch.profiler.schedule(skip_first=40, wait=0, warmup=5, active=20, repeat=1),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
    )


def check_compiler(device: torch.device) -> None:
    """Raises ValueError if the C++ compiler that torch.compile needs on `device` is missing."""
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"] if device.type == "cpu" else ["gcc", "cc", "clang"]
    if not any(name and shutil.which(name) for name in compilers):
        raise ValueError(f"--compile: needs a C++ compiler on {device.type}; install g++, or leave the option out")
