"""What a photo shows of a person, and the labels with which a generator draws a character that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kyara.files.pictures import to_float
from kyara.inversion import traits
from kyara.labels.tagger import Tagger
from kyara.perception import landmarks
from kyara.perception.turning import angle

CERTAIN = 0.65
"""Minimum probability of a value that is taken for certain. Below it, values are varied among the proposals."""
POSSIBLE = 0.15  # minimum probability of a value that is tried if none is certain
EYE_SCALE = 8.0  # CIELAB distance at which a colour of eyes is e times less probable
ABSENT = ("none", "no", "young")  # values that drawings have anyway

CHOSEN = "chosen"  # note of a trait that was not read but chosen with --where or --turn
MEASURED = "measured"  # note of a trait that has no probability

Attributes = Mapping[str, Sequence[str]]

ATTRIBUTES = {"mouth": ("mouth", "expression")}
"""Attribute of a photo -> attributes of drawings that keep it, if not only the one of the same name."""
VALUES: Mapping[tuple[str, str], Sequence[str]] = {
    ("gender", "woman"): ("female",),
    ("gender", "man"): ("male",),
    ("hair", "red"): ("orange", "red"),
    ("hair_length", "bald"): ("short",),
    ("glasses", "glasses"): ("black", "round"),
    ("glasses", "sunglasses"): ("black",),
    ("mouth", "closed"): ("neutral",),
    ("mouth", "smile_closed"): ("smile", "closed"),
    ("mouth", "smile_teeth"): ("grin", "laugh"),
    ("expression", "closed"): ("neutral", "determined", "sleepy"),
    ("expression", "smile_closed"): ("neutral", "determined"),
    ("expression", "smile_teeth"): ("neutral", "surprised"),
    ("expression", "open"): ("surprised", "neutral"),
}
"""Attribute of drawings and value of a photo -> values of drawings that keep it, the best first, if they have different
names."""
FOLLOWS = {("hair_length", "short"): ("sidelocks", "none")}
"""Attribute and label of a drawing -> another attribute, which the reader does not know, and its label."""
REPLACED = {("hair_length", "bald"), ("glasses", "sunglasses")}  # what they keep only roughly
OPEN_MOUTHS = ("smile_teeth", "open")
MOST_KEPT = 20.0  # largest angle in degrees that drawings take over
FRONT = 8.0  # degrees below which a face is drawn from the front: the estimate is not more precise


@dataclass(frozen=True)
class Trait:
    """One attribute of a person."""

    name: str
    value: str  # the most probable value, "" if unknown
    certainty: float  # its probability, 0 to 1; 1 if it was chosen or measured
    note: str = ""  # what a drawing does not keep of it, and why

    @property
    def certain(self) -> bool:
        return self.certainty >= CERTAIN


@dataclass(frozen=True)
class Reading:
    """What was read from one photo."""

    traits: Sequence[Trait]
    labels: Mapping[str, Mapping[str, float]]  # attribute of the generator -> label -> how often to draw with it
    mouth_open: float | None  # probability that the mouth is open; None if the reader does not know
    turn: float = 0.0  # of the head, in degrees, positive to the right of the picture; 0 below `FRONT`
    unread: Sequence[str] = ()  # attributes of the generator that the reader does not know

    def likely(self, labels: Mapping[str, str]) -> float:
        """The logarithm of how probable these labels are, relative to the most probable ones: 0 or less."""
        pairs = ((weights[labels[name]], max(weights.values())) for name, weights in self.labels.items())
        return sum(float(np.log(weight / most)) for weight, most in pairs)

    def draw(self, random: np.random.RandomState) -> dict[str, str]:
        """Labels of one drawing."""
        drawn = {}
        for name, weights in self.labels.items():
            shares = np.array([*weights.values()])
            drawn[name] = str(random.choice([*weights], p=shares / shares.sum()))
        following = [FOLLOWS[one] for one in drawn.items() if one in FOLLOWS]
        return drawn | {name: label for name, label in following if name in self.unread}


def read(
    photo: np.ndarray,
    reader: Tagger,
    attributes: Attributes,
    fixed: Mapping[str, str],
    generator: str,
    turn: float | None = None,
) -> Reading:
    """Reads an aligned photo (H, W, 3) uint8. `attributes` are those of the generator with the name `generator`, and
    `fixed` labels and `turn` replace what is read."""
    found = reader.probabilities(to_float(reader.fit(photo)[None]))
    seen = {name: dict(zip(reader.attributes[name], p[0].tolist(), strict=True)) for name, p in found.items()}
    seen.setdefault("eyes", _eyes(photo))
    shown, labels, unread = list[Trait](), dict[str, dict[str, float]](), {*attributes} - fixed.keys()
    for name, probabilities in seen.items():
        value = max(probabilities, key=probabilities.__getitem__)
        owns = [own for own in ATTRIBUTES.get(name, ()) if own in attributes] or [name]
        weights = {own: _weights(name, own, probabilities, attributes.get(own, ())) for own in owns if own not in fixed}
        labels |= {own: some for own, some in weights.items() if some}
        unread -= weights.keys()
        if weights and name not in fixed:
            has = any(own in attributes for own in owns)
            note = _note(name, value, has, any(weights.values()), generator)
            shown.append(Trait(name, value, probabilities[value], note))
    shown += [Trait(name, value, 1.0, CHOSEN) for name, value in fixed.items()]
    labels |= {name: {value: 1.0} for name, value in fixed.items()}
    degrees, trait = _turn(photo) if turn is None else (turn, Trait("turn", f"{turn:+g}°", 1.0, CHOSEN))
    shown.append(trait)
    mouth = seen.get("mouth", {})
    decisive = next((own for own in ATTRIBUTES["mouth"] if own in attributes), "mouth")
    known = [value for value in OPEN_MOUTHS if value in mouth and decisive not in fixed]
    opened = sum(mouth[value] for value in known) if known else None
    return Reading(shown, labels, opened, degrees, tuple(name for name in attributes if name in unread))


def _weights(name: str, own: str, probabilities: Mapping[str, float], known: Sequence[str]) -> dict[str, float]:
    """How often to draw with each of the `known` labels of the attribute `own`, given those of the photo's `name`."""
    best = max(probabilities.values())
    weights: dict[str, float] = {}
    for value, probability in probabilities.items():
        if probability == best or (best < CERTAIN and probability >= POSSIBLE):
            same = (value,) if own == name else ()  # an expression `closed` has closed eyes
            labels = [*dict.fromkeys(label for label in (*VALUES.get((own, value), ()), *same) if label in known)]
            for i, label in enumerate(labels):
                weights[label] = weights.get(label, 0.0) + probability / 2 ** (i + (len(labels) > 1))
    return weights


def _note(name: str, value: str, has: bool, kept: bool, generator: str) -> str:
    """What a drawing does not keep: `has` is whether the generator has the attribute."""
    if (name, value) not in REPLACED if kept else value in ABSENT:
        return ""
    return f"{generator} knows no {'such value' if has else name.replace('_', ' ')}"


def _turn(photo: np.ndarray) -> tuple[float, Trait]:
    """The angle of the head that a drawing keeps, and the measured one."""
    degrees = float(angle(landmarks.find(to_float(photo[None])))[0])
    if abs(degrees) < FRONT:
        return 0.0, Trait("turn", "front", 1.0, MEASURED)
    side = "left" if degrees < 0 else "right"
    kept = round(min(max(degrees, -MOST_KEPT), MOST_KEPT))
    return kept, Trait("turn", f"{abs(degrees):.0f}° to the {side}", 1.0, MEASURED)


def _eyes(photo: np.ndarray) -> dict[str, float]:
    """Probabilities of the colours of the eyes: of distances to examples."""
    colour = traits.eyes(photo)
    far = {
        name: min(float(np.linalg.norm((traits.lab(np.array(one)) - colour) * traits.WEIGHTS)) for one in several)
        for name, several in traits.EYE_COLOURS.items()
    }
    near = {name: np.exp((min(far.values()) - distance) / EYE_SCALE) for name, distance in far.items()}
    return {name: float(share / sum(near.values())) for name, share in near.items()}
