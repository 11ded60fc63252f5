"""The device and the precision that a verb computes with."""

from __future__ import annotations

import torch


def pick_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one; anything else is taken at its word, and an error says if it is absent."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: not usable here ({error}); use --device auto or cpu") from error
    return torch.device(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16, rather than only emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
