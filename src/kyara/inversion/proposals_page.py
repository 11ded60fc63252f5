"""The page of `kyara avatar`: for every photo what was read from it, and the photo beside its proposals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from kyara.files.atomic import write_text
from kyara.files.gallery_page import BASE_STYLE, GALLERY_STYLE, HEAD, LOCAL, PAGE, SHEET, TABLE, left_out_list
from kyara.inversion.reading import CHOSEN, MEASURED, Trait

STYLE, BODY, ROW = (
    Path(__file__).with_name(f"proposals{end}").read_text("utf-8") for end in (".css", ".html", "_row.html")
)


@dataclass(frozen=True)
class Person:
    """The files of one photo."""

    name: str
    photo: str | None  # None if it is not kept
    proposals: Sequence[tuple[str, str]]  # file and description of each, the best first
    traits: Sequence[Trait]
    warnings: Sequence[str]


def write_page(
    out: Path, people: Sequence[Person], left_out: Sequence[tuple[str, str]], *, command: str, about: str
) -> None:
    """Writes index.html into the folder `out`. `left_out` are names of photos and reasons."""
    links = " ".join(f'<a href="{name}">{label}</a>' for name, label in ((SHEET, "sheet"), (TABLE, "table")))
    style = BASE_STYLE + GALLERY_STYLE.replace("ASPECT", "1") + STYLE
    html = (HEAD + BODY).format(
        images=LOCAL,
        style=style,
        title=escape(out.resolve().name),
        about=escape(about),
        command=escape(command),
        links=links,
        left_out=left_out_list(left_out),
        people="\n".join(_section(i, person) for i, person in enumerate(people, 1)),
    )
    write_text(out / PAGE, html)


def _section(number: int, person: Person) -> str:
    files = [] if person.photo is None else [(person.photo, "the photo")]
    files += [(file, f"{i}: {about}" if about else str(i)) for i, (file, about) in enumerate(person.proposals, 1)]
    ids = [f"p{number}-{i}" for i in range(len(files))]
    items = [_item(file, about, ids[i], ids[i - 1], ids[(i + 1) % len(files)]) for i, (file, about) in enumerate(files)]
    return ROW.format(
        name=escape(person.name),
        traits="".join(map(_trait, person.traits)),
        warnings="".join(f'<p class="warning">{escape(warning)}</p>' for warning in person.warnings),
        items="\n".join(items),
    )


def _item(file: str, about: str, own: str, previous: str, following: str) -> str:
    """One picture. Its link makes it the CSS :target, which is shown enlarged without a script."""
    url, text = quote(file), escape(about)
    return (
        f'<li><figure id="{own}"><a class="open" href="#{own}" title="{text}"><img src="{url}" alt="{text}" '
        f'loading="lazy" decoding="async"></a><figcaption><i>{text}</i></figcaption>'
        f'<a class="close" href="#-" aria-label="close"></a><nav><a href="#{previous}">‹ previous</a>'
        f'<a href="{url}">open the file</a><a href="#{following}">next ›</a><a href="#-">close ×</a></nav>'
        "</figure></li>"
    )


def _trait(trait: Trait) -> str:
    name, value, note = (escape(text.replace("_", " ")) for text in (trait.name, trait.value, trait.note))
    if trait.note in (CHOSEN, MEASURED):
        return f"<li><span>{name}</span> <b>{value}</b> <small>{note}</small></li>"
    kind, end = ("", "") if trait.certain else (' class="unsure"', ", varied")
    bar = f'<u style="--score:{trait.certainty:.1%}"></u><small>{trait.certainty:.0%}{end}</small>'
    return f"<li{kind}><span>{name}</span> <b>{value}</b> {bar}{f'<em>{note}</em>' if note else ''}</li>"
