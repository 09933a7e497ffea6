"""Finds a Python on the target that can run the agent, or says what to install there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import InputError, PrivynetError

if TYPE_CHECKING:
    from .shell_target import ShellTarget

LEAST = (3, 9)
NEEDS = ("numpy", "onnxruntime")
NAMES = ("python3", "python", "/data/data/com.termux/files/usr/bin/python3")
"""Those that are tried, in this order; the last one is Termux's, on a phone that lets adb look there."""

# For Python 2 too, which then says how old it is. Nothing is imported: that takes seconds on a small board.
_LOOK = (
    "import sys; print('python %d %d' % sys.version_info[:2]); "
    "from importlib.util import find_spec; "
    f"[print('missing ' + name) for name in {NEEDS!r} if find_spec(name) is None]"
)


def find_python(target: ShellTarget, wanted: str | None) -> Sequence[str]:
    """The command of a Python on the target that is new enough and has what the agent needs.

    Raises :class:`PrivynetError` that says how to install what is missing; :class:`InputError` when it is the
    one that was asked for that cannot be used.
    """
    names: Sequence[str] = NAMES
    if wanted:
        names = [_absolute(target, wanted)]
    script = "; ".join(
        f'command -v "${number}" >/dev/null 2>&1 && {{ echo "trying ${number}"; '
        f'"${number}" -c "$0" 2>&1; echo "exit $?"; }}'
        for number, _ in enumerate(names, 1)
    )
    answers = _read(target.call(f"{script}; uname -m", _LOOK, *names).decode("utf-8", "replace"))
    if not answers:
        missing = f"there is no {wanted}" if wanted else "there is no Python"
        hint = "name one with --python" if wanted else target.without_python
        raise _unusable(wanted, f"{missing} on {target.name}", hint)
    reasons = [_reason(name, said, target.name) for name, said in answers]
    for (name, _), reason in zip(answers, reasons, strict=True):
        if reason is None:
            return [name]
    message, hint = next(reason for reason in reasons if reason is not None)
    raise _unusable(wanted, message, hint)


def _absolute(target: ShellTarget, wanted: str) -> str:
    """A Python named by a path, as seen from where the agent runs, which is a folder of its own."""
    if wanted.startswith("~/"):
        home = target.call('echo "$HOME"').decode().strip()
        return wanted.replace("~", home, 1)
    if "/" in wanted and not wanted.startswith("/"):
        folder = target.call("pwd").decode().strip()
        return f"{folder.rstrip('/')}/{wanted}"
    return wanted


def _read(text: str) -> list[tuple[str, list[str]]]:
    """What each Python that was tried printed; the target's architecture is the last line of each."""
    lines = text.splitlines()
    answers: list[tuple[str, list[str]]] = []
    for line in lines[:-1]:
        if line.startswith("trying "):
            answers.append((line.removeprefix("trying "), []))
        elif answers:
            answers[-1][1].append(line)
    for _, said in answers:
        said.append(lines[-1])
    return answers


def _reason(name: str, said: Sequence[str], target: str) -> tuple[str, str] | None:
    """Why this Python cannot be used, and what to do; ``None`` for one that can."""
    *printed, ended, architecture = said
    version = next((line.split()[1:] for line in printed if line.startswith("python ")), None)
    if version is None:
        last = printed[-1].strip() if printed else ended.replace("exit", "exit code")
        # A shell that may not run a program takes it for a script, and complains of that.
        if _LOOK in last or "xec format" in last or "cannot execute" in last or "not executable" in last:
            last = "it is no program for that processor"
        return (
            f"{name} on {target} ({architecture}) does not run as a Python: {last[:200]}",
            "name another with --python",
        )
    if tuple(int(part) for part in version) < LEAST:
        least = ".".join(map(str, LEAST))
        return f"{name} on {target} is {'.'.join(version)}, {least} is needed", "name another with --python"
    missing = [line.removeprefix("missing ") for line in printed if line.startswith("missing ")]
    if missing:
        return (
            f"{name} on {target} lacks {' and '.join(missing)}",
            f"run there: {_installing(name, missing)}",
        )
    return None


def _installing(name: str, missing: Sequence[str]) -> str:
    if "com.termux" in name:
        return "pkg install " + " ".join(f"python-{package}" for package in missing)
    return f"{name} -m pip install {' '.join(missing)}"


def _unusable(wanted: str | None, message: str, hint: str) -> PrivynetError:
    return InputError(message, hint=hint) if wanted else PrivynetError(message, hint=hint)
