"""Device, precision and compilation settings of PyTorch."""

from __future__ import annotations

import logging
import os
import re
import shutil
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["32", "bf16"]


def pick_device(device: str) -> torch.device:
    """The device of that name; `auto` is the GPU if there is one. ValueError if it cannot be used here."""
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
    """bf16 where the device computes in it, unless another precision is wanted."""
    return wanted if wanted != "auto" else "bf16" if has_bfloat16(device) else "32"


def make_fabric(device: torch.device, *, devices: int = 1, precision: Precision = "32") -> Fabric:
    """Fabric on `device`, or on several devices of its type. ValueError if there are not as many."""
    from lightning_fabric import Fabric  # imports much that only training needs

    if device.index is not None and devices > 1:
        raise ValueError(f"--devices {devices}: --device {device} is one device; use --device {device.type}")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"--devices {devices}: there are {torch.cuda.device_count()} CUDA devices here")
    # The shapes of a run never change: cuDNN looks for the fastest algorithms once. float32 means float32: TF32 would
    # round the inputs of every convolution to 10 bits; bf16 is there for speed.
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision
    return Fabric(
        accelerator=device.type,
        devices=devices if device.index is None else [device.index],
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )


def check_compiler(device: torch.device) -> None:
    """ValueError if torch.compile has no compiler to generate code with on `device`."""
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"] if device.type == "cpu" else ["gcc", "cc", "clang"]
    if not any(name and shutil.which(name) for name in compilers):
        raise ValueError(f"--compile: needs a C++ compiler on {device.type}; install g++, or leave the option out")
