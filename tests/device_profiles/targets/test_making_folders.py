"""The folder on the target, while it is made: what goes wrong then is one line, and nothing is left there."""

from __future__ import annotations

import shutil
import signal
import threading
from pathlib import Path

import pytest

from privynet.device_profiles.targets import open_target
from privynet.errors import PrivynetError

from .place import Elsewhere, eventually
from .temporary_sshd import Board


def nothing_is_left(place: Elsewhere) -> bool:
    return eventually(lambda: place.guards() == [] and place.left() == [])


def fails(place: Elsewhere, match: str) -> None:
    with pytest.raises(PrivynetError, match=match), open_target(place.url):
        pass
    assert nothing_is_left(place)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'mktemp: failed to create directory: Read-only file system' >&2; exit 1",
            "mktemp: .*Read-only file system",
        ),
        ("echo nonsense", "nonsense"),
    ],
)
def test_a_folder_that_cannot_be_made(elsewhere: Elsewhere, script: str, said: str) -> None:
    elsewhere.program("mktemp", script)
    fails(elsewhere, f"^no temporary folder can be made on .*: {said}; free some room there")


MAKE_FOLDER = f'folder=$({shutil.which("mktemp")} "$@")'


def test_a_hang_up_while_the_folder_is_made_leaves_nothing(elsewhere: Elsewhere) -> None:
    elsewhere.program("mktemp", f'{MAKE_FOLDER}; kill -HUP $PPID; echo "$folder"')
    with open_target(elsewhere.url) as target:
        assert elsewhere.left() == [Path(target.folder)]
    assert elsewhere.left() == []


def test_an_interruption_while_the_folder_is_made_leaves_nothing(elsewhere: Elsewhere) -> None:
    go = elsewhere.programs / "go"
    elsewhere.program(
        "mktemp", f"while [ ! -e '{go}' ]; do sleep 0.05; done; {MAKE_FOLDER}; echo \"$folder\""
    )
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        if eventually(lambda: elsewhere.guards() != []):
            signal.pthread_kill(main, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        with pytest.raises(KeyboardInterrupt), open_target(elsewhere.url):
            pytest.fail("was not interrupted")
    finally:
        interrupting.join()
        go.touch()
    assert nothing_is_left(elsewhere)


@pytest.mark.ssh
def test_a_shell_that_prints_something_first_is_named(board: Board) -> None:
    key = board.user_key.with_suffix(".pub")
    key.write_text(f'command="printf Welcome; eval \\"$SSH_ORIGINAL_COMMAND\\"" {key.read_text()}')
    fails(
        board, "^the shell of ssh://.* prints 'Welcome' before what it is asked for; let its start-up files"
    )


@pytest.mark.ssh
def test_a_login_that_runs_something_else_says_what(board: Board) -> None:
    key = board.user_key.with_suffix(".pub")
    key.write_text(f'command="echo This account is not available." {key.read_text()}')
    fails(board, "^no temporary folder can be made on ssh://.*: This account is not available")
