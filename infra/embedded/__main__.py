"""`nox -s stack`: the system on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from infra import environments
from infra.embedded import down, ports, smoke, up
from infra.embedded.options import DEFAULT_PROJECT, Options, parse
from infra.embedded.supervisor import ServiceDied
from pipelines.interruption import Interrupted, interruptible
from pipelines.project import Misuse, find
from pipelines.runner import StepFailed


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the flags ask for.

    Returns:
        0 if all went well, 2 if something stands in its way, a failed step's exit code, 1 else.
    """
    try:
        with interruptible():
            return _dispatch(parse(sys.argv[1:] if argv is None else argv))
    except Misuse as misuse:
        return _stop(str(misuse), 2)
    except StepFailed as failure:
        return _stop(str(failure), failure.exit_code)
    except (ServiceDied, environments.SetupFailed) as failure:
        return _stop(str(failure), 1)
    except Interrupted as interruption:
        return _stop(f"interrupted ({interruption}); nothing is left running", interruption.exit_code)


def _dispatch(options: Options) -> int:
    root = environments.ROOT
    if options.down:
        return down.down(options, root)
    if options.smoke:
        return smoke.smoke(options, root)
    project = find(root, options.project or DEFAULT_PROJECT)
    return up.stay(up.Stack(project, ports.shifted(options.port_base), options))


def _stop(message: str, code: int) -> int:
    print(f"stack: {message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
