"""The page of `kyara avatar`: for every photo all steps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from kyara.files.atomic import write_text
from kyara.files.gallery_page import HEAD, LOCAL, PAGE, SHEET, TABLE, left_out_list

STYLE, ROW = (Path(__file__).with_name(name).read_text("utf-8") for name in ("chain.css", "chain.html"))


@dataclass(frozen=True)
class Chain:
    """The files of one photo, in the order of the steps."""

    name: str
    about: str
    photo: str | None  # None if it is not kept
    found: str
    character: str
    others: Sequence[str]
    sweep: Sequence[tuple[str, str]]  # file and description of each blend
    warnings: Sequence[str]


def write_page(
    out: Path, chains: Sequence[Chain], left_out: Sequence[tuple[str, str]], *, command: str, about: str
) -> None:
    """Writes index.html into the folder `out`. `left_out` are names of photos and reasons."""
    links = " ".join(f'<a href="{name}">{label}</a>' for name, label in ((SHEET, "sheet"), (TABLE, "table")))
    head = HEAD.format(images=LOCAL, title=escape(out.resolve().name), about=escape(about), style=f"\n{STYLE}")
    body = f"<p><code>$ {escape(command)}</code></p><p>{links}</p></header>\n"
    body += f"{left_out_list(left_out)}{''.join(map(_row, chains))}</html>\n"
    write_text(out / PAGE, head + body)


def _row(chain: Chain) -> str:
    main = [] if chain.photo is None else [(chain.photo, "photo")]
    main += [(chain.found, "reconstruction"), (chain.character, "character")]
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in chain.warnings)
    blends = f"<div><h3>blends with the parent</h3>{_figures(chain.sweep, 'small')}</div>" if chain.sweep else ""
    figures, others = _figures(main, "large"), _figures([(file, "") for file in chain.others], "small")
    texts = {"id": quote(chain.name), "name": escape(chain.name), "about": escape(chain.about)}
    return ROW.format(**texts, warnings=warnings, figures=figures, others=others, blends=blends)


def _figures(files: Sequence[tuple[str, str]], size: str) -> str:
    figures = [
        f'<figure><a href="{quote(file)}"><img src="{quote(file)}" alt="{escape(label)}" loading="lazy"></a>'
        f"<figcaption>{escape(label)}</figcaption></figure>"
        for file, label in files
    ]
    return f'<div class="{size}">{"".join(figures)}</div>'
