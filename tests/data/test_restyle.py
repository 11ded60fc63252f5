"""Changes of style."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from kyara.data import restyle
from kyara.data.restyle import DAMAGES, STYLES

EFFECTS = {**STYLES, **{effect.__name__: effect for effect in DAMAGES}}


def drawing(count: int = 4) -> torch.Tensor:
    """A dark disc and a line on a light ground, (count, 3, 40, 48)."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")
    disc = ((x - 24) ** 2 + (y - 20) ** 2 < 144).float()
    disc[36] = 1
    return torch.stack([0.6 - disc, 0.4 - 0.9 * disc, 0.5 - 0.2 * disc]).expand(count, -1, -1, -1).clone()


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_keeps_the_shape_and_repeats(name: str) -> None:
    pictures = drawing()
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(EFFECTS[name](pictures))
    assert made[0].shape == pictures.shape and made[0].isfinite().all()
    assert torch.equal(made[0], made[1])
    assert torch.equal(pictures, drawing())
    assert not torch.equal(made[0], pictures)
    assert EFFECTS[name](pictures[:, :, :9, :11]).shape == (4, 3, 9, 11)


def test_the_host_does_not_wait_for_the_copies_of_what_it_draws() -> None:
    class Copies(TorchFunctionMode):
        count = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            assert function is not torch.tensor or "device" not in kwargs
            if function is torch.Tensor.to:
                assert kwargs.get("non_blocking")
                self.count += 1
            return function(*args, **kwargs)

    torch.manual_seed(0)
    restyle.restyle(drawing(16), 1.0)  # its constants are cached from now on
    torch.manual_seed(0)
    with Copies() as copies:
        restyle.restyle(drawing(16), 1.0)
    assert copies.count > 5


def test_lines_are_where_the_edges_are() -> None:
    torch.manual_seed(0)
    for effect in (restyle.pencil, restyle.line_drawing):
        made = effect(drawing(16)).mean(1)
        edge, ground = made[:, 19:22, 10:15].amin((1, 2)), made[:, 2:6, 2:10].mean((1, 2))
        assert (edge < ground - 0.2).float().mean() > 0.7, effect.__name__


def test_a_screentone_is_black_and_white_dots() -> None:
    torch.manual_seed(0)
    grey = torch.zeros(8, 3, 64, 64)
    made = restyle.screentone(grey)
    assert torch.equal(made[:, 0], made[:, 2])
    assert (made.flatten(1).std(1) > 0.3).float().mean() >= 0.5  # others are all white or all black


def test_blur_of_a_point_is_a_gaussian() -> None:
    point = torch.zeros(2, 1, 15, 15)
    point[:, :, 7, 7] = 1
    blurred = restyle.gaussian(point, torch.tensor([0.5, 1.5]).view(2, 1, 1, 1))
    assert torch.allclose(blurred.sum((2, 3)), torch.ones(2, 1), atol=1e-4)
    at = torch.arange(-7.0, 8)
    expected = torch.exp(-at.square() / (2 * 1.5**2))
    assert torch.allclose(blurred[1, 0, 7] / blurred[1, 0, 7, 7], expected, atol=1e-4)


def test_light_is_dimmer_coloured_and_keeps_the_shapes() -> None:
    torch.manual_seed(0)
    plain = torch.full((64, 3, 32, 32), 0.5)
    made = restyle.lit(plain)
    assert (made.mean((1, 2, 3)) < 0.5).float().mean() > 0.8
    sides = torch.stack([made[..., 0], made[..., -1], made[:, :, 0], made[:, :, -1]]).mean(3)  # (4, B, 3)
    assert ((sides.amax(0) - sides.amin(0)).amax(1) > 0.05).float().mean() > 0.5  # changes from side to side
    assert (made.mean((2, 3)).std(1) > 0.05).float().mean() > 0.7
    drawn = restyle.lit(drawing(16)).mean(1)
    assert (drawn[:, 20, 24] < drawn[:, 2, 2]).float().mean() > 0.8  # the disc is still the darker one


def test_compression_keeps_flat_blocks_and_loses_detail() -> None:
    torch.manual_seed(0)
    flat = torch.full((4, 3, 20, 20), 0.25)
    assert torch.allclose(restyle.compressed(flat), flat, atol=0.02)
    noise = torch.rand(4, 3, 24, 24) * 0.2
    made = restyle.compressed(noise)
    assert (made - noise).abs().max() > 0.01 and made.std() < noise.std()


def test_a_share_of_the_pictures_is_restyled() -> None:
    torch.manual_seed(0)
    pictures = drawing(200)
    assert torch.equal(restyle.restyle(pictures, 0.0), pictures)
    changed = (restyle.restyle(pictures, 0.5) != pictures).flatten(1).any(1).float().mean()
    assert 0.5 < changed < 0.95  # some in style, and others damaged
    made = restyle.restyle(pictures, 1.0)
    assert made.abs().max() <= 1 and torch.equal(pictures, drawing(200))
