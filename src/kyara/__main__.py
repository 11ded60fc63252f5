"""The command line, built from the verbs' signatures. Only this module prints."""

from __future__ import annotations

import errno
import functools
import inspect
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

from kyara import VERBS, __version__

USAGE = f"""usage: kyara VERB [options]      kyara VERB --help shows a verb's options

Train a GAN on a folder of drawn faces, and generate new ones.

{chr(10).join(f"  {verb:<10} {summary}" for verb, (_, summary) in VERBS.items())}

begin with: kyara generate --count 16"""


def main() -> None:
    """Runs one verb. Errors that the user can correct are printed on one line, without a traceback. If the reader of
    stdout has ended, as in `kyara ... | head`, the exit status is 141, as of a program that SIGPIPE ends."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that the terminal cannot encode are escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            dispatch(sys.argv[1:])
        finally:  # also after SystemExit, which --help raises
            if sys.stdout:  # None if it was closed before the start
                sys.stdout.flush()
    except OSError as error:  # of stdout; those of a verb are caught by `run`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again at its exit
        if error.__context__ and not isinstance(error.__context__, SystemExit):
            raise error.__context__ from None  # an error of the program comes first
        closed = isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)
        sys.exit(141 if closed else f"kyara: the output cannot be written: {error}")


def dispatch(arguments: list[str]) -> None:
    """Calls the verb that is the first of the arguments, or prints the usage or the version."""
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(USAGE)
    elif verb == "--version":
        print(f"kyara {__version__}")
    elif verb not in VERBS:
        sys.exit(f"kyara: unknown verb {verb!r}; the verbs are {', '.join(VERBS)}")
    else:
        run(verb, arguments[1:])


def run(verb: str, arguments: list[str]) -> None:
    """Calls the verb's function with the parsed arguments and prints its result."""
    import tyro

    import kyara

    try:
        function = getattr(kyara, "import_" if verb == "import" else verb)
    except OSError as error:  # such as a shared library that cannot be loaded
        sys.exit(f"kyara {verb}: {error}")
    shown = tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName
    parsed = with_json(function)
    arguments = positionals_first(arguments, parsed)
    call, as_json = tyro.cli(parsed, prog=f"kyara {verb}", args=arguments, config=shown)
    try:
        result = call()
    except (ValueError, OSError, FloatingPointError) as error:
        one_of_several = "TORCHELASTIC_RUN_ID" in os.environ and os.environ["LOCAL_RANK"] != "0"
        sys.exit(1 if one_of_several else f"kyara {verb}: {error}")  # torchrun: one speaks on each machine
    except KeyboardInterrupt as stopped:
        print(*stopped.args or (f"kyara {verb}: interrupted",), file=sys.stderr)  # whether and how it can go on
        sys.exit(130)
    print(json.dumps(result.as_json()) if as_json else result)


def positionals_first(arguments: list[str], parsed: Callable[..., Any]) -> list[str]:
    """The arguments with the options last, also those that were between or before the others: the parser would end a
    list of sources at the first option. Options for a bool parameter of `parsed` have no value."""
    from typing import get_args, get_type_hints

    hints = get_type_hints(parsed)
    names = [name.replace("_", "-") for name, hint in hints.items() if hint is bool or bool in get_args(hint)]
    alone = {"-h", "--help", *(f"--{no}{name}" for name in names for no in ("", "no-"))}
    positionals, options = list[str](), list[str]()
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            return [*positionals, *options, word, *rest]
        if not word.startswith("-") or word == "-":
            positionals.append(word)
            continue
        options.append(word)
        if word not in alone and "=" not in word:
            options += itertools.islice(rest, 1)
    return positionals + options


def with_json(verb: Callable[..., Any]) -> Callable[..., tuple[Callable[[], Any], bool]]:
    """Parses a call of `verb` and an additional option --json: returns the call, and whether --json is given.
    `*paths: Path` becomes a tuple in one positional argument, as tyro drops its metavar otherwise. Texts of arguments
    are one line each, as --help would keep the line breaks of the source, and defaults that say nothing are not
    shown."""
    from typing import get_type_hints

    from tyro.conf import arg

    signature = inspect.signature(verb)
    annotations = get_type_hints(verb, include_extras=True)
    annotations["json"] = Annotated[bool, arg(help="Print the result as JSON.")]
    parameters = list(signature.parameters.values())
    parameters.append(inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False))
    several = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
    if several:
        hint = annotations[several]
        annotations[several] = Annotated[tuple[hint.__origin__, ...], *hint.__metadata__]  # type: ignore[name-defined]
        i = [p.name for p in parameters].index(several)
        parameters[i] = inspect.Parameter(several, inspect.Parameter.KEYWORD_ONLY)

    for parameter in parameters:
        annotations[parameter.name] = _shown(annotations[parameter.name], parameter.default, parameter.name == several)

    @functools.wraps(verb)
    def wrapped(*arguments: Any, json: bool = False, **options: Any) -> tuple[Callable[[], Any], bool]:
        return functools.partial(verb, *arguments, *options.pop(several, ()), **options), json

    wrapped.__doc__ = re.sub(r"\n {8,}", " ", inspect.getdoc(verb) or "")
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = annotations
    del wrapped.__wrapped__  # tyro would read the annotations of the verb itself
    return wrapped


def _shown(hint: Any, default: Any, several: bool) -> Any:
    """The annotation of an argument, so that --help shows no defaults that say nothing, and no --no-force."""
    from tyro.conf import FlagCreatePairsOff, arg

    annotated: Any = Annotated
    one_way: Any = FlagCreatePairsOff
    if default is False:
        hint = one_way[hint]
    if several:
        return annotated[hint, arg(help_behavior_hint="(required)")]
    silent = default is False or default in (None, "", ())
    return annotated[hint, arg(help_behavior_hint="")] if silent else hint


if __name__ == "__main__":
    main()
