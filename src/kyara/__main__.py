"""The command line: the verbs' signatures, nothing else."""

from __future__ import annotations

import sys

from kyara import VERBS, __version__

USAGE = f"""usage: kyara VERB [options]      kyara VERB --help tells them

From a folder of drawn faces to a generator of new ones.

{chr(10).join(f"  {verb:<10} {summary}" for verb, (_, summary) in VERBS.items())}

begin with: kyara generate --count 16 --out avatars"""


def main() -> None:
    """Runs one verb. What a person can mend is told in a line, not in a traceback."""
    arguments = sys.argv[1:]
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(USAGE)
    elif verb == "--version":
        print(f"kyara {__version__}")
    elif verb not in VERBS:
        sys.exit(f"kyara: {verb!r} is no verb; there are {', '.join(VERBS)}")
    else:
        run(verb, arguments[1:])


def run(verb: str, arguments: list[str]) -> None:
    """Calls the verb's function with what tyro makes of the arguments."""
    import tyro

    import kyara

    try:
        tyro.cli(getattr(kyara, verb), prog=f"kyara {verb}", args=arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"kyara {verb}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
