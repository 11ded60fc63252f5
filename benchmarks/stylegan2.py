"""Kyara's StyleGAN2 against a plain one and against stylegan2_pytorch: pictures per second and memory on the CPU.

.venv-bench/bin/python benchmarks/stylegan2.py [--size 64] [--batch 32] [--preset two-core]
    [--set network.channel_max=128]

All of them run turn about in this process, with every core. Training is one step of both players and its share of
the lazy penalties. The plain one is the same network, weights and step, written as the paper reads: float32, weights
modulated for each picture in one grouped convolution, filters of separate operations. stylegan2_pytorch 1.9.0 is
another network, built with the same channels; its step is what its Trainer does (see `Lucidrains`).
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from measure import machine, peak_alone, pick_clock, ratio, turn_about
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kyara.models import base, stylegan2
from kyara.nn.filters import BINOMIAL, pad_even
from kyara.nn.layers import ACTIVATION, Conv, ModulatedConv, minibatch_deviation
from kyara.training.runtime import pick_precision
from kyara.training.settings import configure
from kyara.training.trainer import move_average, update

with patch("torch.cuda.is_available", return_value=True):  # all it does without a GPU is refuse to be imported
    from stylegan2_pytorch import stylegan2_pytorch as lucidrains

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

TOGETHER = 8
"""Pictures generated at once, as `kyara generate` does it."""


class Kyara:
    """Trains as kyara.training.loop does and generates as kyara.generation.generate does."""

    def __init__(self, config: stylegan2.Config, *, precision: str, compiled: bool = False) -> None:
        self.model = stylegan2.Model(config).train()
        self.every = {
            phase: self.model.reg_interval(phase) for phase in ("d_reg", "g_reg") if self.model.reg_interval(phase)
        }
        self.fabric = Fabric(accelerator="cpu", precision="bf16-mixed" if precision == "bf16" else "32-true")
        self.losses = torch.compile(self.model.losses, dynamic=False) if compiled else self.model.losses
        self.optimizers = {player: self.model.optimizer(list(player.parameters())) for player in self.players}
        self.real = torch.rand(config.optimizer.batch, 3, config.data.height, config.data.width) * 2 - 1

    @property
    def players(self) -> tuple[nn.Module, nn.Module]:
        return self.model.d, self.model.g

    def step(self, lazy: str | None = None) -> None:
        """Every phase that is not lazy, and the one that is asked for."""
        kept = [buffer.clone() for buffer in self.model.buffers()]
        dropped = torch.zeros(())
        for phase, player in self.model.players().items():
            if self.model.reg_interval(phase) != 1 and phase != lazy:
                continue
            for other in self.players:
                other.requires_grad_(other is player)
            losses = self.losses if self.model.reg_interval(phase) == 1 else self.model.losses
            with self.fabric.autocast():
                named = losses(phase, base.Batch(self.real))
            torch.stack([loss.float() for loss in named.values()]).sum().backward()
            dropped = torch.maximum(dropped, update(self.fabric, self.optimizers[player]))
        for buffer, before in zip(self.model.buffers(), kept, strict=True):
            buffer.copy_(torch.where(dropped > 0, before, buffer))
        move_average(self.model.g_ema, self.model.g, 0.999)

    @torch.inference_mode()
    def generate(self) -> Tensor:
        self.model.eval()
        pictures = self.model.sample(torch.randn(TOGETHER, self.model.z_dim))
        self.model.train()
        return pictures

    def parts(self) -> dict[str, Callable[[], object]]:
        """One picture through each network, to count what they compute."""
        return {
            "generator": lambda: self.model.sample(torch.randn(1, self.model.z_dim)),
            "discriminator": lambda: self.model.d(self.real[:1]),
        }


class Plain(Kyara):
    """The same network and step, the network's forward passes written plainly."""

    def __init__(self, config: stylegan2.Config) -> None:
        super().__init__(config, precision="32")
        make_plain(self.model)


def make_plain(model: stylegan2.Model) -> None:
    for generator in (model.g, model.g_ema):
        generator.synthesis.__class__ = PlainSynthesis
    model.d.__class__ = PlainDiscriminator


class PlainSynthesis(stylegan2.Synthesis):
    def forward(self, ws: Tensor, random_noise: bool = True) -> Tensor:
        x = self.constant.expand(len(ws), -1, -1, -1)
        w = ws.unbind(1)
        picture = torch.zeros(())
        for level, block in enumerate(self.blocks):
            i = 2 * level
            if level:
                x = styled(block.conv0, x, w[i - 1], random_noise)
                picture = upfirdn(picture, pads=(2, 1), up=True, gain=4)
            x = styled(block.conv1, x, w[i], random_noise)
            rgb = modulated(block.to_rgb.conv, x, block.to_rgb.affine(w[i + 1]))
            picture = picture + rgb + block.to_rgb.bias[:, None, None]
        height, width = self.size
        top, left = (picture.shape[2] - height) // 2, (picture.shape[3] - width) // 2
        return picture[:, :, top : top + height, left : left + width]


class PlainDiscriminator(stylegan2.Discriminator):
    def forward(self, pictures: Tensor) -> Tensor:
        x = activated(convolved(self.from_rgb, pictures))
        for block in reversed(self.blocks):
            x = pad_even(x)
            y = activated(convolved(block.conv0, x))
            y = activated(convolved(block.conv1, y))
            x = (y + convolved(block.skip, x)) * 0.5**0.5
        x = activated(convolved(self.conv, minibatch_deviation(x, self.group)))
        x = F.leaky_relu(self.hidden(x.flatten(1)), 0.2)
        return self.output(x).squeeze(1)


def styled(layer: stylegan2.StyledConv, x: Tensor, w: Tensor, random_noise: bool) -> Tensor:
    x = modulated(layer.conv, x, layer.affine(w))
    noise = torch.randn(len(x), 1, *x.shape[2:]) if random_noise else layer.noise
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
    row = torch.tensor(BINOMIAL)
    kernel = torch.outer(row, row) * (gain / row.sum() ** 2)
    return F.conv2d(F.pad(x, pads * 2), kernel.expand(channels, 1, -1, -1), groups=channels)


class Lucidrains(nn.Module):
    """stylegan2_pytorch 1.9.0 with the step of its Trainer, which wants CUDA, copied on the CPU.

    Its generator and discriminator get the same channels at the finest level and the same maximum; it has one
    convolution more in each level of the discriminator, and one level more. The average of its weights, which is
    moved after 20,000 steps at every tenth, is left out. Its Trainer penalises gradients on real and generated pictures
    at every 4th step; `fair` does it like Kyara, on real ones, as seldom.
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
        self.every = {"d_reg": config.losses.r1_interval if fair else 4}
        if config.losses.path_weight:
            self.every["g_reg"] = config.losses.path_interval if fair else 32
        self.real = torch.rand(config.optimizer.batch, 3, side, side)

    def styles(self, count: int) -> Tensor:
        """Of two latents for each picture, as at nine steps of ten."""
        layers, (_, _, z_dim) = self.G.num_layers, self.size
        middle = int(torch.rand(()) * layers)
        latents = [(torch.randn(count, z_dim), middle), (torch.randn(count, z_dim), layers - middle)]
        styles: Tensor = lucidrains.styles_def_to_tensor(lucidrains.latent_to_w(self.S, latents))
        return styles

    def noise(self, count: int) -> Tensor:
        return torch.rand(count, self.size[1], self.size[1], 1)

    def step(self, lazy: str | None = None) -> None:
        batch, penalty = self.size[0], lazy == "d_reg"
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
        if lazy == "g_reg":
            lengths = lucidrains.calc_pl_lengths(styles, fake)
            loss = loss + (lengths - lengths.detach().mean()).square().mean()
        loss.backward()
        self.g_optimizer.step()

    @torch.inference_mode()
    def generate(self) -> Tensor:
        w = self.S(torch.randn(TOGETHER, self.size[2]))
        return self.G(w[:, None].expand(-1, self.G.num_layers, -1), self.noise(TOGETHER)).clamp_(0, 1)

    def parts(self) -> dict[str, Callable[[], object]]:
        self.requires_grad_(False)  # or its constant trips the counter
        return {
            "generator": lambda: self.G(self.styles(1), self.noise(1)),
            "discriminator": lambda: self.D(self.real[:1]),
        }


def check(config: stylegan2.Config) -> float:
    """The largest difference between Kyara's pictures and logits and the plain one's, in float32, for the same weights.
    AssertionError if they are not the same network."""
    model = stylegan2.Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)  # noise and biases start at zero, and would hide
        z, real = torch.randn(4, config.network.z_dim), torch.rand(4, 3, config.data.height, config.data.width) * 2 - 1
        ours = model.sample(z), model.d(real)
        make_plain(model)
        plain = model.sample(z), model.d(real)
    difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, plain, strict=True))
    assert difference < 1e-3, f"the plain network is another one: {difference:.2g}"
    return difference


def operations(parts: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Billions of multiplications and additions of each network, for one picture."""
    counted = {}
    for name, part in parts.items():
        with FlopCounterMode(display=False) as counter:
            part()
        counted[name] = counter.get_total_flops() / 1e9
    return counted


def parameters(contender: Any) -> tuple[int, int]:
    """Of the generator with its mapping, and of the discriminator."""
    networks = (contender.model.g, contender.model.d) if isinstance(contender, Kyara) else (contender, contender.D)
    generator, discriminator = (sum(p.numel() for p in network.parameters()) for network in networks)
    return generator - (0 if isinstance(contender, Kyara) else discriminator), discriminator


def train_once(build: Callable[[], Any]) -> None:
    """Every kind of step, twice: optimisers get their state in the first."""
    contender = build()
    for lazy in [None, *contender.every] * 2:
        contender.step(lazy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="two-core")
    parser.add_argument("--size", help="64, or 96x64 (height x width)")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--set", default="", help="more numbers of the model, as kyara train takes them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--busy", action="store_true", help="one thread, processor seconds: something else is running")
    parser.add_argument("--compile", action="store_true", help="also Kyara's losses through torch.compile")
    args = parser.parse_args()
    config = configure("stylegan2", preset=args.preset, size=args.size, batch=args.batch, changes=args.set)
    assert isinstance(config, stylegan2.Config)
    clock = pick_clock(args.busy)
    torch.manual_seed(0)
    ours = partial(Kyara, config, precision=pick_precision("auto", torch.device("cpu")))
    builds: dict[str, Callable[[], Any]] = {"Kyara": ours, "plain": partial(Plain, config)}
    if (
        config.data.width == config.data.height and config.data.width.bit_count() == 1
    ):  # all that stylegan2_pytorch takes
        builds["stylegan2_pytorch"] = partial(Lucidrains, config, fair=False)
        builds["  penalised as Kyara"] = partial(Lucidrains, config, fair=True)
    if args.compile:
        torch.compiler.config.force_disable_caches = True  # or the time to compile would be that of the second time
        builds["Kyara, compiled"] = partial(ours, compiled=True)
    print(
        f"StyleGAN2 {' '.join(filter(None, (args.preset, args.set)))}, {config.data.height} x {config.data.width}\n"
        f"{machine()}",
        flush=True,
    )
    memory = {
        name: (peak_alone(partial(train_once, build)), peak_alone(lambda build=build: build().generate()))
        for name, build in builds.items()
    }
    print(f"Kyara in {ours.keywords['precision']}; the plain one is the same network to {check(config):.0e}")
    contenders = {name: build() for name, build in builds.items()}
    if args.compile:
        start = time.perf_counter()
        contenders["Kyara, compiled"].step()
        print(f"the first step compiled: {time.perf_counter() - start:.0f} s")
    lazy = {phase for contender in contenders.values() for phase in contender.every}
    steps = {
        (name, phase): partial(contender.step, phase)
        for phase in [None, *sorted(lazy)]
        for name, contender in contenders.items()
    }
    seconds = turn_about(steps, args.rounds, clock)
    training = {
        name: [
            once + sum((seconds[name, phase][i] - once) / every for phase, every in contender.every.items())
            for i, once in enumerate(seconds[name, None])
        ]
        for name, contender in contenders.items()
    }
    generation = turn_about(
        {name: contender.generate for name, contender in contenders.items()}, 3 * args.rounds, clock
    )

    rounds = f"median of {args.rounds} rounds, batch {config.optimizer.batch}"
    print(f"\n{rounds}; x: how many times as fast Kyara is; memory in MiB")
    print(f"{'':22}{'training':>22}{'generating':>23}{'parameters':>15}{'GFLOPs':>12}")
    columns = ("img/s", "x", "memory", "img/s", "x", "memory", "G", "D", "G", "D")
    print(f"{'':22}" + "".join(f"{c:>{w}}" for c, w in zip(columns, (8, 6, 8, 9, 6, 8, 8, 7, 6, 6), strict=True)))
    for name, contender in contenders.items():
        row = f"{name:22}"
        for times, pictures, most in zip(
            (training, generation), (config.optimizer.batch, TOGETHER), memory[name], strict=True
        ):
            row += (
                f"{pictures / statistics.median(times[name]):8.1f}{ratio(times[name], times['Kyara']):6.2f}{most:8.0f} "
            )
        g, d = parameters(contender)
        flops = operations(contender.parts())
        print(f"{row}{g / 1e6:6.2f}M{d / 1e6:6.2f}M{flops['generator']:6.2f}{flops['discriminator']:6.2f}")


if __name__ == "__main__":
    main()
