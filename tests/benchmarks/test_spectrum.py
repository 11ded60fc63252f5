"""Spectra of known pictures."""

from __future__ import annotations

import numpy as np
from conftest import drawn_picture
from scripts import load

spectrum = load("spectrum")


def test_a_checkerboard_shows_at_its_place_only() -> None:
    faces = [drawn_picture(seed, 64) for seed in range(8)]
    board = (np.indices((64, 64)).sum(0) % 2 * 12)[..., None]
    marked = [np.clip(face.astype(int) // 2 + board, 0, 255) for face in faces]
    plain, broken = spectrum.spectrum([face.astype(int) // 2 for face in faces]), spectrum.spectrum(marked)
    highest = {name: broken_ / spectrum.highest(plain)[name] for name, broken_ in spectrum.highest(broken).items()}
    assert highest["checkerboard"] > 10 and max(highest["every second row"], highest["every second column"]) < 1.1
    low = spectrum.decibels(spectrum.radial(broken), spectrum.radial(plain))
    assert low.shape == (32,) and np.abs(low[:24]).max() < 0.5


def test_a_spectrum_of_noise_is_flat_and_of_the_power_of_the_noise() -> None:
    noise = np.random.RandomState(0).normal(128, 10, (64, 32, 32, 1)).repeat(3, 3)
    found = spectrum.radial(spectrum.spectrum(noise))
    window = np.outer(np.hanning(32), np.hanning(32))
    assert np.allclose(found[2:], 100 * (window**2).sum(), rtol=0.15)


def test_half_the_amplitude_is_six_decibels_less() -> None:
    assert np.isclose(spectrum.decibels(0.25, 1.0), -6.02, atol=0.01)
