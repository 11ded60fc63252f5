"""Kyara's StyleGAN2 against a plain version and against stylegan2_pytorch: pictures per second and memory on the CPU.

    .venv-bench/bin/python benchmarks/stylegan2.py [--size 64] [--batch 32] [--preset two-core] [--set NAME=VALUE]

All of them alternate in this process and use all cores. Kyara's side is `Trainer.step`, as in `kyara train`. The plain
version has the same network, weights and step in the form of the paper: float32, weights modulated for each picture in
one grouped convolution, filters of separate operations. stylegan2_pytorch 1.9.0 is another network with the same
channels and the step of its own Trainer (see `Lucidrains`); without it its rows are missing.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from common import interleaved, machine, peak_in_fork, pick_clock, ratio, run
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kyara.generation.sampler import BATCH, sample
from kyara.models import base, stylegan2
from kyara.nn.filters import BINOMIAL, pad_even
from kyara.nn.layers import ACTIVATION, Conv, ModulatedConv, minibatch_deviation
from kyara.training.runtime import Precision, pick_precision
from kyara.training.settings import configure
from kyara.training.trainer import Options, Trainer

try:
    with patch("torch.cuda.is_available", return_value=True):  # its import fails without a GPU, which it does not use
        from stylegan2_pytorch import stylegan2_pytorch as lucidrains
except ImportError:
    lucidrains = None

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


class Kyara:
    """Trains with Trainer.step and generates with the sampler."""

    def __init__(self, config: stylegan2.Config, *, precision: Precision, compiled: bool = False) -> None:
        batch, data = config.optimizer.batch, config.data
        self.model = stylegan2.Model(config)
        options = Options(batch=batch, micro_batch=batch, augment="none", precision=precision)
        self.trainer = Trainer(self.model, options, compile_losses=compiled)
        self.intervals = {p: n for p in self.model.phases if (n := self.model.reg_interval(p)) > 1}
        self.real = torch.rand(batch, 3, data.height, data.width) * 2 - 1

    def step(self, step: int) -> None:
        self.trainer.steps = step  # which phases are due
        self.trainer.step(base.Batch(self.real))

    @torch.inference_mode()
    def generate(self) -> Tensor:
        self.model.eval()
        pictures = sample(self.model, torch.randn(BATCH, self.model.z_dim))
        self.model.train()
        return pictures

    def parts(self) -> dict[str, Callable[[], object]]:
        """One picture through each network."""
        return {
            "generator": lambda: self.model.sample(torch.randn(1, self.model.z_dim)),
            "discriminator": lambda: self.model.d(self.real[:1]),
        }


class Plain(Kyara):
    """The same network and step with plain forward passes."""

    def __init__(self, config: stylegan2.Config) -> None:
        super().__init__(config, precision="32")
        make_plain(self.model)


def make_plain(model: stylegan2.Model) -> None:
    for generator in (model.g, model.g_ema):
        generator.synthesis.__class__ = PlainSynthesis
    model.d.__class__ = PlainDiscriminator


class PlainSynthesis(stylegan2.Synthesis):
    def forward(self, ws: Tensor, noise: bool | Sequence[Tensor] = True) -> Tensor:
        x = self.constant.expand(len(ws), -1, -1, -1)
        w = ws.unbind(1)
        picture = torch.zeros((), device=x.device)
        for level, block in enumerate(self.blocks):
            i = 2 * level
            if level:
                x = styled(block.conv0, x, w[i - 1], noise is True)
                picture = upfirdn(picture, pads=(2, 1), up=True, gain=4)
            x = styled(block.conv1, x, w[i], noise is True)
            rgb = modulated(block.to_rgb.conv, x, block.to_rgb.affine(w[i + 1]))
            picture = picture + rgb + block.to_rgb.bias[:, None, None]
        height, width = self.size
        top, left = (picture.shape[2] - height) // 2, (picture.shape[3] - width) // 2
        return picture[:, :, top : top + height, left : left + width]


class PlainDiscriminator(stylegan2.Discriminator):
    def judge(self, pictures: Tensor, labels: Tensor | None = None) -> tuple[Tensor, None]:
        x = activated(convolved(self.from_rgb, pictures))
        for block in reversed(self.blocks):
            x = pad_even(x)
            y = activated(convolved(block.conv0, x))
            y = activated(convolved(block.conv1, y))
            x = (y + convolved(block.skip, x)) * 0.5**0.5
        x = activated(convolved(self.conv, minibatch_deviation(x, self.group)))
        x = F.leaky_relu(self.hidden(x.flatten(1)), 0.2)
        return self.output(x), None


def styled(layer: stylegan2.StyledConv, x: Tensor, w: Tensor, random_noise: bool) -> Tensor:
    x = modulated(layer.conv, x, layer.affine(w))
    noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device) if random_noise else layer.noise
    x = x + noise * layer.noise_strength
    return activated(x + layer.bias[:, None, None])


def modulated(conv: ModulatedConv, x: Tensor, style: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    weight = conv.weight * conv.weight_gain * style[:, None, :, None, None]  # (B, out, in, k, k)
    if conv.demodulate:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, -1, height, width)
    if conv.up:
        x = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    else:
        x = F.conv2d(x, weight.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
    x = x.reshape(batch, -1, *x.shape[2:])
    return upfirdn(x, pads=(1, 1), gain=4) if conv.up else x


def convolved(conv: Conv, x: Tensor) -> Tensor:
    weight, pad = conv.weight / conv.weight[0].numel() ** 0.5, conv.weight.shape[-1] // 2
    if not conv.down:
        return F.conv2d(x, weight, conv.bias, padding=pad)
    return F.conv2d(upfirdn(x, pads=(pad + 1, pad + 1)), weight, conv.bias, stride=2)


def activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * ACTIVATION


def upfirdn(x: Tensor, *, pads: tuple[int, int], up: bool = False, gain: float = 1.0) -> Tensor:
    batch, channels, height, width = x.shape
    if up:
        x = F.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1)).reshape(batch, channels, 2 * height, 2 * width)
    row = torch.tensor(BINOMIAL, device=x.device)
    kernel = torch.outer(row, row) * (gain / row.sum() ** 2)
    return F.conv2d(F.pad(x, pads * 2), kernel.expand(channels, 1, -1, -1), groups=channels)


class Lucidrains(nn.Module):
    """stylegan2_pytorch 1.9.0 with the step of its Trainer, which needs CUDA, written out for the CPU.

    Its networks have the same number of channels at the finest level and the same maximum; the discriminator has one
    more convolution in each level, and one more level. The moving average of its weights, updated at every tenth step
    after 20,000 steps, is left out. Its Trainer applies the gradient penalty to real and generated pictures at every
    4th step; `fair` applies it like Kyara, to real ones at the same interval.
    """

    def __init__(self, config: stylegan2.Config, *, fair: bool) -> None:
        super().__init__()
        finest, side = config.channels(config.levels), config.data.width
        self.size, self.fair = (config.optimizer.batch, side, config.network.z_dim), fair
        self.S = lucidrains.StyleVectorizer(config.network.z_dim, config.network.mapping_layers)
        self.G = lucidrains.Generator(
            side, config.network.z_dim, network_capacity=finest // 2, fmap_max=config.network.channel_max
        )
        self.D = lucidrains.Discriminator(side, network_capacity=finest // 4, fmap_max=config.network.channel_max)
        lucidrains.StyleGAN2._init_weights(self)
        self.augmented = lucidrains.AugWrapper(self.D, side)
        generator = [*self.S.parameters(), *self.G.parameters()]
        self.g_optimizer = torch.optim.Adam(generator, lr=2e-4, betas=(0.5, 0.9))
        self.d_optimizer = torch.optim.Adam(self.D.parameters(), lr=4e-4, betas=(0.5, 0.9))
        losses = config.losses
        self.intervals = {"d_reg": losses.r1_interval if fair else 4}
        if losses.path_weight:
            self.intervals["g_reg"] = losses.path_interval if fair else 32
        self.real = torch.rand(config.optimizer.batch, 3, side, side)

    def styles(self, count: int) -> Tensor:
        """Styles of two latents for each picture, as in nine of ten steps."""
        layers, (_, _, z_dim) = self.G.num_layers, self.size
        middle = int(torch.rand(()) * layers)
        latents = [(torch.randn(count, z_dim), middle), (torch.randn(count, z_dim), layers - middle)]
        styles: Tensor = lucidrains.styles_def_to_tensor(lucidrains.latent_to_w(self.S, latents))
        return styles

    def noise(self, count: int) -> Tensor:
        return torch.rand(count, self.size[1], self.size[1], 1)

    def step(self, step: int) -> None:
        batch, penalty = self.size[0], step % self.intervals["d_reg"] == 0
        self.d_optimizer.zero_grad()
        fake = self.G(self.styles(batch), self.noise(batch))
        fake, (fake_logits, _) = self.augmented(
            fake.clone().detach(), return_aug_images=True, input_requires_grad=penalty, detach=True
        )
        real = self.real.clone().requires_grad_(penalty)
        real_logits, _ = self.augmented(real)
        loss = lucidrains.hinge_loss(fake_logits, real_logits)
        if penalty:
            loss = loss + lucidrains.gradient_penalty(real, real_logits)
        if penalty and not self.fair:
            loss = loss + lucidrains.gradient_penalty(fake, fake_logits)
        loss.backward()
        self.d_optimizer.step()

        self.g_optimizer.zero_grad()
        styles = self.styles(batch)
        fake = self.G(styles, self.noise(batch))
        fake_logits, _ = self.augmented(fake)
        loss = lucidrains.gen_hinge_loss(fake_logits, None)
        if "g_reg" in self.intervals and step % self.intervals["g_reg"] == 0:
            lengths = lucidrains.calc_pl_lengths(styles, fake)
            loss = loss + (lengths - lengths.detach().mean()).square().mean()
        loss.backward()
        self.g_optimizer.step()

    @torch.inference_mode()
    def generate(self) -> Tensor:
        w = self.S(torch.randn(BATCH, self.size[2]))
        return self.G(w[:, None].expand(-1, self.G.num_layers, -1), self.noise(BATCH)).clamp_(0, 1)

    def parts(self) -> dict[str, Callable[[], object]]:
        self.requires_grad_(False)  # the counter fails at its constant otherwise
        return {
            "generator": lambda: self.G(self.styles(1), self.noise(1)),
            "discriminator": lambda: self.D(self.real[:1]),
        }


def check(config: stylegan2.Config) -> float:
    """The largest relative difference between Kyara's pictures and logits and those of the plain version, in float32
    with the same weights. AssertionError if they are not the same network."""
    model = stylegan2.Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)  # noise and biases are zero at first
        z = torch.randn(4, config.network.z_dim)
        real = torch.rand(4, 3, config.data.height, config.data.width) * 2 - 1
        ours = model.sample(z), model.d(real)
        make_plain(model)
        plain = model.sample(z), model.d(real)
    difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, plain, strict=True))
    assert difference < 1e-3, f"the plain network differs: {difference:.2g}"
    return difference


def cycle(intervals: Mapping[str, int]) -> dict[int, float]:
    """Steps that stand for all steps: number of a step -> share of the steps with the same phases."""
    length = math.lcm(*intervals.values())
    due = [tuple(step % n == 0 for n in intervals.values()) for step in range(length)]
    return {due.index(phases): count / length for phases, count in Counter(due).items()}


def giga_operations(parts: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Billions of multiplications and additions of each network for one picture."""
    counted = {}
    for name, part in parts.items():
        with FlopCounterMode(display=False) as counter:
            part()
        counted[name] = counter.get_total_flops() / 1e9
    return counted


def parameters(contender: Any) -> tuple[int, int]:
    """Of the generator with its mapping network, and of the discriminator."""
    own = isinstance(contender, Kyara)
    networks = (contender.model.g, contender.model.d) if own else (contender, contender.D)
    generator, discriminator = (sum(p.numel() for p in network.parameters()) for network in networks)
    return generator - (0 if own else discriminator), discriminator


def train_once(build: Callable[[], Any]) -> None:
    """Every kind of step twice: optimizers create their state in the first."""
    contender = build()
    for step in [*cycle(contender.intervals)] * 2:
        contender.step(step)


def measure(
    preset: str = "two-core",
    size: str | None = None,
    batch: int | None = None,
    set: str = "",
    rounds: int = 7,
    busy: bool = False,
    compile: bool = False,
) -> None:
    """Prints a table.

    Args:
        preset: Preset of stylegan2.
        size: 64, or 96x64 (height x width).
        batch: Pictures in one step.
        set: Changes of the preset, as `kyara train --set` takes them.
        rounds: Rounds of the measurement.
        busy: One thread and processor time, for a machine with other load.
        compile: Also measure Kyara with --compile.
    """
    config = configure("stylegan2", preset=preset, size=size, batch=batch, changes=set)
    assert isinstance(config, stylegan2.Config)
    clock = pick_clock(busy)
    torch.manual_seed(0)
    builds = contenders(config, compile)
    title = " ".join(filter(None, (preset, set)))
    print(f"StyleGAN2 {title}, {config.data.height} x {config.data.width}\n{machine()}", flush=True)
    memory = {
        name: (peak_in_fork(partial(train_once, build)), peak_in_fork(lambda build=build: build().generate()))
        for name, build in builds.items()
    }
    print(f"the plain version is the same network to {check(config):.0e}")
    built = {name: build() for name, build in builds.items()}
    if compile:
        start = time.perf_counter()
        built["Kyara, compiled"].step(1)
        print(f"first step when compiled: {time.perf_counter() - start:.0f} s")
    shares = {name: cycle(contender.intervals) for name, contender in built.items()}
    steps = {(name, step): partial(built[name].step, step) for name in built for step in shares[name]}
    seconds = interleaved(steps, rounds, clock)
    training = {
        name: [sum(share * seconds[name, step][i] for step, share in shares[name].items()) for i in range(rounds)]
        for name in built
    }
    generation = interleaved({name: contender.generate for name, contender in built.items()}, 3 * rounds, clock)

    batch = config.optimizer.batch
    print(f"\nmedian of {rounds} rounds, batch {batch}; x: how many times as fast Kyara is; memory in MiB")
    print(f"{'':22}{'training':>22}{'generating':>23}{'parameters':>15}{'GFLOPs':>12}")
    columns = ("img/s", "x", "memory", "img/s", "x", "memory", "G", "D", "G", "D")
    print(f"{'':22}" + "".join(f"{c:>{w}}" for c, w in zip(columns, (8, 6, 8, 9, 6, 8, 8, 7, 6, 6), strict=True)))
    for name, contender in built.items():
        row = f"{name:22}"
        measured = zip((training, generation), (batch, BATCH), memory[name], strict=True)
        for times, count, most in measured:
            speed = count / statistics.median(times[name])
            row += f"{speed:8.1f}{ratio(times[name], times['Kyara']):6.2f}{most:8.0f} "
        g, d = parameters(contender)
        flops = giga_operations(contender.parts())
        print(f"{row}{g / 1e6:6.2f}M{d / 1e6:6.2f}M{flops['generator']:6.2f}{flops['discriminator']:6.2f}")


def contenders(config: stylegan2.Config, compiled: bool) -> dict[str, Callable[[], Any]]:
    """Name -> how it is built."""
    ours = partial(Kyara, config, precision=pick_precision("auto", torch.device("cpu")))
    builds: dict[str, Callable[[], Any]] = {"Kyara": ours, "plain": partial(Plain, config)}
    if lucidrains is None:
        print("stylegan2_pytorch is not installed: it is left out")
    elif config.data.width == config.data.height and config.data.width.bit_count() == 1:  # all that it supports
        builds["stylegan2_pytorch"] = partial(Lucidrains, config, fair=False)
        builds["  penalty of Kyara"] = partial(Lucidrains, config, fair=True)
    if compiled:
        torch.compiler.config.force_disable_caches = True  # the first step should include the compilation
        builds["Kyara, compiled"] = partial(ours, compiled=True)
    return builds


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
