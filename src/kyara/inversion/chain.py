"""The page of `kyara avatar`: for every photo all steps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from kyara.files.atomic import write_atomic
from kyara.files.gallery_page import HEAD, PAGE, SHEET, TABLE


@dataclass(frozen=True)
class Chain:
    """The files of one photo, in the order of the steps."""

    name: str
    about: str
    photo: str | None
    """None if it is not kept."""
    found: str
    character: str
    others: Sequence[str]
    sweep: Sequence[tuple[str, str]]
    """Description and file of each blend."""
    warnings: Sequence[str]


def write_page(out: Path, chains: Sequence[Chain], *, command: str, about: str) -> None:
    """Writes index.html into the folder `out`."""
    links = " ".join(f'<a href="{name}">{label}</a>' for name, label in ((SHEET, "sheet"), (TABLE, "table")))
    head = HEAD.format(images="'self' file:", title=escape(out.resolve().name), about=escape(about), style=_STYLE)
    body = f"<p><code>$ {escape(command)}</code></p><p>{links}</p></header>\n{''.join(map(_row, chains))}</html>\n"
    write_atomic(out / PAGE, lambda temporary: temporary.write_text(head + body, encoding="utf-8"))


def _row(chain: Chain) -> str:
    main = [(chain.found, "found in the parent"), (chain.character, "character")]
    if chain.photo is not None:
        main.insert(0, (chain.photo, "photo"))
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in chain.warnings)
    sweep = [(file, about) for about, file in chain.sweep]
    return (
        f'<section id="{quote(chain.name)}"><h2>{escape(chain.name)}</h2><p>{escape(chain.about)}</p>{warnings}'
        f'<div class="chain">{_figures(main, "large")}'
        f"<div><h3>other variants</h3>{_figures([(file, '') for file in chain.others], 'small')}</div>"
        + (f"<div><h3>blended with the parent</h3>{_figures(sweep, 'small')}</div>" if sweep else "")
        + "</div></section>\n"
    )


def _figures(files: Sequence[tuple[str, str]], size: str) -> str:
    return f'<div class="{size}">' + "".join(_figure(*file) for file in files) + "</div>"


def _figure(file: str, label: str) -> str:
    name = quote(file)
    return (
        f'<figure><a href="{name}"><img src="{name}" alt="{escape(label)}" loading="lazy"></a>'
        f"<figcaption>{escape(label)}</figcaption></figure>"
    )


_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 1200px; padding: 2rem clamp(1rem, 4vw, 3rem); font: 15px/1.5 system-ui, sans-serif; }
h1, h2 { margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1rem; } h3 { font-size: .8rem; margin: 0 0 .3rem; }
p { margin: .2rem 0 .6rem; opacity: .75; overflow-wrap: anywhere; } .warning { color: #b3261e; opacity: 1; }
section { border-top: 1px solid #8884; padding: 1rem 0; }
.chain { display: flex; flex-wrap: wrap; gap: 1rem 1.6rem; align-items: flex-start; }
.large, .small { display: flex; flex-wrap: wrap; gap: .6rem; }
.small figure { width: 76px; }
figure { margin: 0; } figcaption { font-size: 12px; opacity: .75; }
.large img { width: 160px; aspect-ratio: 1; border-radius: .6rem; } .small { max-width: 430px; }
.small img { width: 76px; aspect-ratio: 1; border-radius: .3rem; }
"""
