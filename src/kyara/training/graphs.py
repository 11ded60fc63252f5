"""The phases of a step as CUDA graphs: the device repeats what it did once, without Python and without launches.

A StyleGAN2 step launches some 1,300 kernels, which takes the CPU longer than the GPU needs to run them. What goes in
(pictures, labels) is copied to fixed memory; what changes from step to step (weights, averages, strength of the
augmentation, random numbers) is read from tensors, or from the generator of the device, at every replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kyara.models.base import Batch
from kyara.training.distributed import tell

WARM_UP = 3  # steps without a graph, in which cuDNN chooses its algorithms and constants are cached

Work = Callable[[Batch], dict[str, Tensor]]  # losses and gradients of a batch -> detached scalars to log


@dataclass
class Graph:
    """One captured phase, with at least one gradient. Each replay overwrites its gradients and outputs."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    outputs: dict[str, Tensor]
    gradients: list[tuple[nn.Parameter, Tensor]]

    def replay(self, batch: Batch, alone: bool) -> dict[str, Tensor]:
        """The gradients are copied, since the next micro-batch overwrites them, unless there is none (`alone`)."""
        for mine, given in zip(self.batch.tensors(), batch.tensors(), strict=True):
            mine.copy_(given)
        self.graph.replay()
        parameters, gradients = zip(*self.gradients, strict=True)
        if alone:
            for parameter, gradient in self.gradients:
                parameter.grad = gradient
        elif parameters[0].grad is None:
            for parameter, gradient in zip(parameters, torch._foreach_mul(gradients, 1.0), strict=True):
                parameter.grad = gradient
        else:  # a second micro-batch
            torch._foreach_add_([parameter.grad for parameter in parameters], gradients)
        return self.outputs


class Graphs:
    """Runs work, as a CUDA graph from the fourth time on. Work that cannot be captured runs as it is, with a warning.

    Everything runs on a stream of its own: gradients remember the stream on which they were first accumulated."""

    def __init__(self, device: torch.device) -> None:
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))  # which may still copy the weights
        torch.cuda.set_stream(stream)
        self.pool = torch.cuda.graph_pool_handle()  # shared: no graph reads what another one computed
        self.graphs: dict[Hashable, Graph | None] = {}  # None: cannot be captured
        self.runs: Counter[Hashable] = Counter()

    def run(
        self,
        name: str,
        key: Hashable,
        parameters: Sequence[nn.Parameter],
        work: Work,
        batch: Batch,
        *,
        alone: bool = False,
    ) -> dict[str, Tensor]:
        """Does `work` on a batch and adds the gradients of `parameters`; `alone` if there are none yet, and none are
        added before they are used. `key` is everything that decides which kernels run, beside the shapes of the
        batch."""
        key = name, key, tuple((tensor.shape, tensor.dtype) for tensor in batch.tensors())
        self.runs[key] += 1
        if key not in self.graphs and self.runs[key] > WARM_UP:
            self.graphs[key] = self._capture(name, parameters, work, batch)
        graph = self.graphs.get(key)
        return work(batch) if graph is None else graph.replay(batch, alone)

    def _capture(self, name: str, parameters: Sequence[nn.Parameter], work: Work, batch: Batch) -> Graph | None:
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None  # so that the gradients lie in the memory of the graph
        graph, batch = torch.cuda.CUDAGraph(), batch.clone()
        torch.cuda.synchronize()
        try:
            # Other threads pin memory meanwhile; only this one must not wait for the device.
            with torch.cuda.graph(graph, self.pool, torch.cuda.current_stream(), capture_error_mode="thread_local"):
                outputs = work(batch)
            gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
            return Graph(graph, batch, outputs, gradients) if gradients else None
        except RuntimeError as error:
            tell(f"warning: phase {name} runs without a CUDA graph ({str(error).splitlines()[0]})")
            return None
        finally:
            for parameter, gradient in zip(parameters, before, strict=True):
                parameter.grad = gradient
