"""The documentation is true: links resolve, commands parse, options exist and are all named, the language is plain."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro

import kyara
from kyara import models
from kyara.__main__ import with_json

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
GUIDE, REFERENCE, REPORTS = (sorted((DOCS / part).glob("*.md")) for part in ("guide", "reference", "reports"))
MANUAL = [README, DOCS / "README.md", *GUIDE, *REFERENCE]
CARDS = sorted((ROOT / "src/kyara/weights").glob("*/README.md"))
WORDS = 1200
"""A longer page of the manual is two pages."""
FOREIGN = {"--index-url", "--logdir", "--nnodes", "--nproc_per_node", "--node_rank", "--master_addr", "--master_port"}
"""Options of other programs that the manual names."""

OPTION = re.compile(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*(?![\w-])")
SETTING = re.compile(r"(?<=[` ,.])(data|network|losses|optimizer|augment|holes)\.([a-z]\w*)(?=[`=])")

FORBIDDEN = [
    r"told", r"asked", r"pace", r"deviation[ _]group", r"reach of", r"(with)?in reach", r"fold(ed)?", r"joint",
    r"imagin\w*", r"kernel distance", r"damage", r"what is shown", r"shall", r"who(so|m)?ever", r"will do",
    r"as many as there are", r"centre", r"held while", r"lessons?", r"obe(y|ys|dient)",
]  # fmt: skip
"""The words that DESIGN.md's glossary replaces, and others that readers had to decode."""
ALLOWED = re.compile(r"`[^`]*`|\[[^\]]*\]\([^)]*\)")
"""Code and links are names, not language."""


def function(verb: str) -> Any:
    return getattr(kyara, "import_" if verb == "import" else verb)


def names(verb: str) -> set[str]:
    """The options of a verb as they are typed, without its positional arguments."""
    found = {"--json", "--help"}
    for name, parameter in inspect.signature(function(verb)).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            option = name.replace("_", "-")
            both = parameter.default is True or parameter.annotation == "bool | None"
            found |= {f"--{option}", f"--no-{option}"} if both else {f"--{option}"}
    return found


def commands(page: Path) -> list[str]:
    """The `kyara` commands in the blocks of a page, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [" ".join(line.split()) for line in re.findall(r"^ {4,}(kyara .*)$", text, flags=re.MULTILINE)]


def parse(command: str) -> dict[str, Any]:
    """What the command line makes of a command, without running it. SystemExit if it is refused."""
    _, verb, *words = shlex.split(command, comments=True)
    real = with_json(function(verb))

    def stub(*arguments: Any, **options: Any) -> dict[str, Any]:
        bound = inspect.signature(real).bind(*arguments, **options)
        return dict(bound.arguments)

    functools.update_wrapper(stub, real)
    stub.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    return dict(tyro.cli(stub, args=words))


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [*MANUAL, *REPORTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if not target.startswith(("http", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page}: {target}"


def test_every_page_is_linked() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", index)}
    assert {*GUIDE, *REFERENCE, *REPORTS} <= linked


def test_cards_are_their_templates_filled_in() -> None:
    for card in CARDS:
        template = re.escape((DOCS / "cards" / f"{card.parent.name}.md").read_text(encoding="utf-8"))
        filled = re.sub(r"\\\{.*?\\\}", ".*?", template)
        assert re.fullmatch(filled, card.read_text(encoding="utf-8"), flags=re.DOTALL), card


def test_cards_name_pages_that_are_there() -> None:
    for card in CARDS:
        for name in re.findall(r"docs/[\w/.-]+\.(?:md|json)", card.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{card}: {name}"


def test_source_names_pages_that_are_there() -> None:
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tools").glob("*.py")]:
        for name in re.findall(r"docs/[\w/.-]+\.md", path.read_text(encoding="utf-8").replace("NAME", "anime")):
            assert (ROOT / name).is_file(), f"{path}: {name}"


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_code_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        assert (ROOT / "src/kyara" / name).is_file() or (ROOT / name).is_file(), f"{page.name}: {name}"
    for name in re.findall(r"`(kyara(?:\.\w+){2,})`", text):
        module, _, attribute = name.rpartition(".")
        found = hasattr(importlib.import_module(module), attribute) or importlib.util.find_spec(name)
        assert found, f"{page.name}: {name}"


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(page):
        if "..." in command:
            continue
        try:
            options = parse(command)
        except SystemExit:
            output = capsys.readouterr()
            pytest.fail(f"{page.name}: {command}\n{output.out}{output.err}")
        for setting in filter(None, (options.get("set") or "").split(",")):
            group, _, name = setting.partition("=")[0].partition(".")
            config = next(iter(models.architecture(options["model"]).presets.values()))
            assert hasattr(getattr(config, group), name), f"{page.name}: --set {setting}"


def test_settings_exist() -> None:
    configs = [next(iter(models.architecture(name).presets.values())) for name in models.names()]
    for page in MANUAL:
        text = page.read_text(encoding="utf-8")
        for group, name in re.findall(
            r"(?<=[` ,.])(data|network|losses|optimizer|augment|holes)\.([a-z]\w*)(?=[`=])", text
        ):
            assert any(hasattr(getattr(c, group, None), name) for c in configs), f"{page.name}: {group}.{name}"
    losses = models.architecture("cartoongan").presets["portrait"].losses
    table = (DOCS / "reference/cartoongan.md").read_text(encoding="utf-8").split("## ")[1]
    for row in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE):
        assert all(hasattr(losses, name) for name in re.findall(r"`(\w+)`", row)), row


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_exist(page: Path) -> None:
    """Those named beside a verb are the verb's, the others at least some verb's."""
    known = set().union(*map(names, kyara.VERBS)) | FOREIGN
    text = page.read_text(encoding="utf-8")
    for option in OPTION.findall(text):
        assert option in known, f"{page.name}: {option}"
    for verb, rest in re.findall(r"`kyara ([a-z]+)([^`]*)`", text):
        for option in OPTION.findall(rest):
            assert option in names(verb), f"{page.name}: kyara {verb} {option}"


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_calls_fit_the_signatures(page: Path) -> None:
    for verb, arguments in re.findall(r"\bkyara\.([a-z_]+)(\([^`\n]*?\))", page.read_text(encoding="utf-8")):
        if verb.rstrip("_") in kyara.VERBS:
            call = ast.parse(f"verb{arguments}", mode="eval").body
            assert isinstance(call, ast.Call)
            options = {str(keyword.arg): None for keyword in call.keywords}
            inspect.signature(getattr(kyara, verb)).bind(*call.args, **options)


def test_reference_names_every_option() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE if page.name.startswith("options"))
    for verb in kyara.VERBS:
        section = text.partition(f"## kyara {verb}\n")[2].partition("\n## ")[0]
        for name in inspect.signature(function(verb)).parameters:
            option = name.replace("_", "-")
            assert f"--{option}" in section or option.upper().replace("-", "_") in section, f"{verb}: {option}"


def test_written_tables_are_current() -> None:
    for name, text in tool().pages().items():
        assert (DOCS / "reference" / name).read_text(encoding="utf-8") == text, f"{name}: run python tools/reference.py"


def test_reference_names_every_model_and_checkpoint() -> None:
    listed = (DOCS / "reference/models.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in listed for name in models.names())
    listed = (DOCS / "reference/built-in.md").read_text(encoding="utf-8")
    assert all(f"`builtin:{card.parent.name}`" in listed for card in CARDS)


def test_the_source_tree_is_complete() -> None:
    text = (DOCS / "reference/source.md").read_text(encoding="utf-8").partition("\n\n`tests/`")[0]
    listed = re.findall(r"^\| `([\w./]+)` \|", text, flags=re.MULTILINE)
    source = ROOT / "src/kyara"
    assert {f"{path.name}/" for path in source.iterdir() if path.is_dir() and path.name != "__pycache__"} <= {*listed}
    assert all((source / name).exists() for name in listed)


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= WORDS


@pytest.mark.parametrize("page", [*MANUAL, *CARDS], ids=lambda page: str(page.relative_to(ROOT)))
def test_language_is_plain(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    prose = " ".join(ALLOWED.sub(" ", prose).split())
    for word in FORBIDDEN:
        found = re.search(rf".{{0,40}}\b{word}\b.{{0,20}}", prose, flags=re.IGNORECASE)
        assert found is None, f"{page.name}: {found and found[0]}"


@pytest.mark.parametrize("page", REPORTS, ids=lambda page: page.name)
def test_reports_say_when_and_on_what(page: Path) -> None:
    head = page.read_text(encoding="utf-8").partition("\n\n")[2].partition("\n\n")[0]
    assert re.search(r"\| date[^|]*\| .*20\d\d-\d\d-\d\d", head), "no date"
    assert re.search(r"\| (data|machine) \|", head), "no data"


@pytest.mark.parametrize("verb", kyara.VERBS)
def test_help_texts_have_no_line_breaks_of_the_source(verb: str) -> None:
    lines = (with_json(function(verb)).__doc__ or "").split("Args:")[-1].strip("\n").splitlines()
    assert lines and all(re.match(r" {4}\w+: ", line) for line in lines)
