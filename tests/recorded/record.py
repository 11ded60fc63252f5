"""What is kept of the cases, and how it is compared.

    python -m tests.recorded.record             records every case anew
    python -m tests.recorded.record rank tag    only these

Run it only when a result is meant to change: what stands in expected.json afterwards is what counts. Numbers differ in
their last bits from one kind of processor to another; so the file says on which it was made. There the contents must be
the same to the bit, elsewhere their summaries must be near.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

EXPECTED = Path(__file__).with_name("expected.json")
RECORDING = "KYARA_RECORD"
"""Set in the environment, the tests write instead of comparing."""
NEAR, NEAR_WEIGHTS = 5e-2, 0.25
"""How far summaries from another kind of processor may be, as a share of their largest number. Some compute in
bfloat16, others do not, and a rule that is learned adds up the differences of its steps."""
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def machine() -> dict[str, Any]:
    """What the last bits depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    said = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    told = {key.strip(): value.strip() for key, value in said.items()}
    flags = told.get("flags", "").split()
    return {
        "processor": told.get("model name", platform.processor()),
        "family": "/".join(told.get(key, "?") for key in ("vendor_id", "cpu family", "model")),
        "used": torch.backends.cpu.get_cpu_capability(),
        "flags": sorted(flag for flag in flags if flag == "avx512_bf16" or flag.startswith("amx_")),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def describe(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A hash and a summary of everything that a case made in its folder, by name."""
    return {name: _describe(content, str(folder)) for name, content in made.items()}


def _describe(content: Any, folder: str) -> dict[str, Any]:
    if isinstance(content, str):
        text = content.replace(folder, "")
        return {
            "kind": "text",
            "sha256": _sha256(text.encode()),
            "summary": [text.partition("\n")[0], text.count("\n")],
        }
    if isinstance(content, dict):
        return _describe_tensors(content)
    arrays = [np.asarray(array) for array in (content if isinstance(content, list) else [content])]
    flat = np.concatenate([array.ravel() for array in arrays]).astype(np.float64)
    means = [float(part.mean()) for part in np.array_split(flat, 8) if part.size]
    return {
        "kind": f"{len(arrays)} of {arrays[0].dtype} {arrays[0].shape}",
        "sha256": _sha256(b"".join(map(_bytes, arrays))),
        "summary": _short([*means, float(flat.std())]),
    }


def _describe_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Names may change, so the hash is that of the tensors without them, in any order; `parts` are to find what
    changed."""
    hashes = {name: _sha256(_bytes(tensor.cpu().numpy())) for name, tensor in tensors.items()}
    parts: dict[str, list[str]] = {}
    for name in sorted(hashes):
        parts.setdefault(name.partition(".")[0], []).append(name + hashes[name])
    flat = np.sort(np.concatenate([tensor.numpy().ravel() for tensor in tensors.values()]).astype(np.float64))
    return {
        "kind": f"{len(tensors)} tensors, {flat.size} numbers",
        "sha256": _sha256("".join(sorted(hashes.values())).encode()),
        "summary": _short([*np.quantile(flat, QUANTILES).tolist(), float(flat.mean()), float(flat.std())]),
        "parts": {part: _sha256("".join(named).encode())[:16] for part, named in parts.items()},
    }


def _bytes(array: np.ndarray) -> bytes:
    return f"{array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _short(values: list[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def differences(found: dict[str, Any], expected: dict[str, Any], exact: bool) -> list[str]:
    """What is not as it was, one line each."""
    lines = [f"{name}: only {'now' if name in found else 'before'}" for name in sorted(found.keys() ^ expected.keys())]
    for name in sorted(found.keys() & expected.keys()):
        now, before = found[name], expected[name]
        same = now["sha256"] == before["sha256"] if exact else now["kind"] == before["kind"] and _near(now, before)
        if not same:
            parts = [part for part, value in now.get("parts", {}).items() if before.get("parts", {}).get(part) != value]
            lines.append(f"{name} ({now['kind']}, was {before['kind']})" + f" in {', '.join(parts)}" * bool(parts))
            lines.append(f"    {now['summary']}\n    {before['summary']}")
    return lines


def _near(now: dict[str, Any], before: dict[str, Any]) -> bool:
    a, b = now["summary"], before["summary"]
    if now["kind"] == "text":
        return bool(a == b)
    share = NEAR_WEIGHTS if "parts" in now else NEAR
    return bool(np.allclose(a, b, rtol=0, atol=share * np.nanmax(np.abs(b)) + 1e-12, equal_nan=True))


def read() -> dict[str, Any]:
    """The machine on which all was recorded, and the cases."""
    if not EXPECTED.exists():
        return {"machine": machine(), "cases": {}}
    found: dict[str, Any] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return found


def keep(name: str, found: dict[str, Any]) -> None:
    """Writes one case."""
    recorded = read()
    recorded["cases"] = dict(sorted((recorded["cases"] | {name: found}).items()))
    lines = [f" {json.dumps(case)}: {_lines(outputs)}" for case, outputs in recorded["cases"].items()]
    head = json.dumps(recorded["machine"])
    EXPECTED.write_text(f'{{"machine": {head},\n"cases": {{\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


def _lines(outputs: dict[str, Any]) -> str:
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(kept)}" for name, kept in outputs.items()) + "}"


def main(cases: list[str]) -> int:
    if not cases:
        EXPECTED.unlink(missing_ok=True)
    elif read()["machine"] != machine():
        raise SystemExit(f"{EXPECTED.name} was made on another machine: record all cases, or none")
    test = f"{Path(__file__).with_name('test_recorded.py')}::test_the_same_comes_out"
    tests = [f"{test}[{case}]" for case in cases] or [test]
    return subprocess.run([sys.executable, "-m", "pytest", *tests], env={**os.environ, RECORDING: "1"}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
