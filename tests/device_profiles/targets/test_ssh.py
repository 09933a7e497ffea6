"""OpenSSH's conventions: known hosts, configuration, agent, jumps; a real sshd, and ssh as the oracle."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from privynet.device_profiles.measuring import read_machine
from privynet.device_profiles.targets import open_target
from privynet.device_profiles.targets.shell_target import ShellTarget
from privynet.errors import InputError, PrivynetError

from .temporary_sshd import Board, free_port, make_key

pytestmark = pytest.mark.ssh


def reach(url: str, *, accept_new_host_key: bool = False) -> None:
    """Use a target, as little as there is."""
    with open_target(url, accept_new_host_key=accept_new_host_key) as target:
        assert target.folder


@pytest.fixture
def home(board: Board) -> Path:
    """The client's ~/.ssh; it may log in to the board and knows it."""
    return Path(os.environ["HOME"]) / ".ssh"


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Board]:
    """Another board, which the client does not know, but may log in to with a key of its own."""
    with Board(tmp_path / "second") as board:
        yield board


def fingerprint(board: Board) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(board.host_key)], capture_output=True, text=True, check=True
    )
    return shown.stdout.split()[1]


def test_an_unknown_host_is_refused_with_its_fingerprint(board: Board, home: Path) -> None:
    (home / "known_hosts").unlink()
    expected = f"the host [127.0.0.1]:{board.port} is not known; its key is ssh-ed25519 {fingerprint(board)}"
    with pytest.raises(InputError, match=re.escape(expected) + ".*add --accept-new-host-key$"):
        reach(board.url)
    assert not (home / "known_hosts").exists()


def test_an_unknown_host_is_learnt_as_ssh_would(board: Board, home: Path) -> None:
    """After a line without an end, too."""
    (home / "known_hosts").write_text("# mine")
    reach(board.url, accept_new_host_key=True)
    assert (home / "known_hosts").read_text() == "# mine\n" + " ".join(board.known_line().split()) + "\n"
    reach(board.url)
    options = [f"UserKnownHostsFile={home / 'known_hosts'}", "StrictHostKeyChecking=yes", "BatchMode=yes"]
    oracle = ["ssh", "-F", "none", "-i", str(board.user_key), "-p", str(board.port)]
    oracle += [text for option in options for text in ("-o", option)]
    subprocess.run([*oracle, f"{board.user}@127.0.0.1", "true"], check=True, timeout=60)


def test_a_home_without_a_folder_for_ssh_gets_one(
    board: Board, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config").write_text(f"IdentityFile {board.user_key}\nUserKnownHostsFile ~/new/known_hosts\n")
    reach(board.url, accept_new_host_key=True)
    assert (home.parent / "new" / "known_hosts").read_text().startswith(f"[127.0.0.1]:{board.port} ")


def test_known_hosts_may_be_a_file_for_each_host(board: Board, home: Path) -> None:
    kept = home / "100% known" / "127.0.0.1"
    kept.parent.mkdir()
    kept.write_text(board.known_line())
    (home / "known_hosts").unlink()
    (home / "config").write_text(
        f'IdentityFile {board.user_key}\nUserKnownHostsFile "%d/.ssh/100%% known/%h"\n'
    )
    reach(board.url)


@pytest.mark.parametrize("name", ["~/.ssh/%C", "~nobody-has-this-name/known_hosts", "known_hosts%"])
def test_a_file_of_known_hosts_that_cannot_be_found_is_told(board: Board, home: Path, name: str) -> None:
    (home / "config").write_text(f"IdentityFile {board.user_key}\nUserKnownHostsFile {name}\n")
    with pytest.raises(InputError, match=f"UserKnownHostsFile {re.escape(name)} cannot be found"):
        reach(board.url)


def test_a_python_may_be_named_from_the_folder_of_the_login(board: Board) -> None:
    with open_target(board.url) as target:
        assert isinstance(target, ShellTarget)
        folder = target.call("pwd").decode().strip()
    named = os.path.relpath(board.programs / "python3", folder)
    assert not Path(named).is_absolute()
    with open_target(board.url, python=named) as target:
        assert read_machine(target)["architecture"] == platform.machine()


@pytest.mark.parametrize("accept", [False, True])
def test_a_changed_key_is_always_refused(board: Board, second: Board, home: Path, accept: bool) -> None:
    other = second.host_key.with_suffix(".pub").read_text()
    (home / "known_hosts").write_text(f"[127.0.0.1]:{board.port} {other}")
    expected = (
        rf"the key of \[127.0.0.1\]:{board.port} is not the one that is known, .* it is now ssh-ed25519 "
    )
    with pytest.raises(InputError, match=expected + r".*ssh-keygen -R '\[127.0.0.1\]:\d+'$"):
        reach(board.url, accept_new_host_key=accept)
    assert (home / "known_hosts").read_text() == f"[127.0.0.1]:{board.port} {other}"


@pytest.mark.parametrize("accept", [False, True])
def test_a_known_key_of_a_kind_that_the_host_does_not_have_is_a_change(
    board: Board, home: Path, tmp_path: Path, accept: bool
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "ecdsa")], check=True)
    other = (tmp_path / "ecdsa.pub").read_text()
    (home / "known_hosts").write_text(f"[127.0.0.1]:{board.port} {other}")
    with pytest.raises(InputError, match="is not the one that is known"):
        reach(board.url, accept_new_host_key=accept)


def test_a_revoked_key_is_refused(board: Board, home: Path) -> None:
    (home / "known_hosts").write_text("@revoked " + board.known_line())
    with pytest.raises(PrivynetError, match="revoked"):
        reach(board.url, accept_new_host_key=True)


def test_a_key_of_another_port_of_the_host_says_nothing(board: Board, second: Board, home: Path) -> None:
    """127.0.0.1 is known with another key on port 22, as a machine with several servers is."""
    (home / "known_hosts").write_text("127.0.0.1 " + second.host_key.with_suffix(".pub").read_text())
    with pytest.raises(InputError, match="is not known"):
        reach(board.url)


def test_a_hashed_host_is_known(board: Board, home: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-H", "-f", str(home / "known_hosts")], check=True, capture_output=True
    )
    assert "127.0.0.1" not in (home / "known_hosts").read_text()
    reach(board.url)


def test_not_checking_cannot_be_configured(board: Board, home: Path) -> None:
    (home / "known_hosts").unlink()
    (home / "config").write_text("StrictHostKeyChecking no\nUserKnownHostsFile none\n")
    with pytest.raises(InputError, match="is not known"):
        reach(board.url)


def test_a_key_that_is_not_to_be_kept_is_not_accepted(board: Board, home: Path) -> None:
    (home / "known_hosts").unlink()
    (home / "config").write_text("UserKnownHostsFile none\n")
    with pytest.raises(InputError, match=r"is not known; .*; if that is right, name a UserKnownHostsFile"):
        reach(board.url, accept_new_host_key=True)
    assert not (home / "known_hosts").exists()


def test_everybody_s_known_hosts_can_be_configured_and_are_not_written_to(board: Board, home: Path) -> None:
    (home / "known_hosts").unlink()
    (home / "config").write_text(f"GlobalKnownHostsFile {home / 'everybodys'}\n")
    reach(board.url, accept_new_host_key=True)
    assert not (home / "everybodys").exists()
    (home / "known_hosts").rename(home / "everybodys")
    reach(board.url)


def test_the_configuration_gives_host_user_port_and_key(board: Board, home: Path) -> None:
    (home / "id_ed25519").unlink()
    lines = ["Host Pi", "HostName 127.0.0.1", f"Port {board.port}", f"User {board.user}"]
    (home / "config").write_text("\n".join([*lines, f"IdentityFile {board.user_key}"]) + "\n")
    reach("ssh://Pi")
    with pytest.raises(PrivynetError, match="ssh://pi cannot be reached"):
        reach("ssh://pi")  # another host, as for ssh


def test_a_jump_is_made_and_its_host_is_checked_too(board: Board, second: Board, home: Path) -> None:
    lines = [
        "Host target",
        "HostName 127.0.0.1",
        f"Port {board.port}",
        f"User {board.user}",
        "ProxyJump jump",
    ]
    lines += ["Host jump", "HostName 127.0.0.1", f"Port {second.port}", f"User {second.user}"]
    lines += [f"IdentityFile {second.user_key}"]
    (home / "config").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"the host \[127.0.0.1\]:{second.port} is not known"):
        reach("ssh://target")
    reach("ssh://target", accept_new_host_key=True)
    with open_target("ssh://target"):
        assert second.sessions()


def test_a_jump_to_an_address_in_brackets(board: Board, second: Board, home: Path) -> None:
    lines = ["Host *", "Host target", "HostName 127.0.0.1", f"Port {board.port}", f"User {board.user}"]
    lines += [f"ProxyJump {second.user}@[127.0.0.1]:{second.port}"]
    lines += ["Host 127.0.0.1", f"IdentityFile {second.user_key}"]
    (home / "config").write_text("\n".join(lines) + "\n")
    reach("ssh://target", accept_new_host_key=True)


@pytest.mark.parametrize(
    ("jump", "kind", "match"),
    [
        ("[::1]:1", PrivynetError, "cannot be reached"),
        ("me@host:many", InputError, r"^the ProxyJump 'me@host:many' is no \[USER@\]HOST\[:PORT\]; correct"),
        ("host:65536", InputError, "the ProxyJump 'host:65536' is no"),
    ],
)
def test_a_jump_that_leads_nowhere_is_one_line(
    board: Board, home: Path, jump: str, kind: type[PrivynetError], match: str
) -> None:
    (home / "config").write_text(f"Host target\nProxyJump {jump}\n")
    with pytest.raises(PrivynetError, match=match) as caught:
        reach("ssh://target")
    assert type(caught.value) is kind


def test_a_jump_in_a_circle_is_an_input_error(board: Board, home: Path) -> None:
    (home / "config").write_text("Host *\nProxyJump other\n")
    with pytest.raises(InputError, match="ProxyJump of other goes in a circle"):
        reach(board.url)


def test_keys_come_from_the_agent(board: Board, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "id_ed25519").unlink()
    socket = home / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        while not socket.exists():
            pass
        with pytest.raises(PrivynetError, match="takes none of the keys"):
            reach(board.url)
        subprocess.run(["ssh-add", "-q", str(board.user_key)], check=True)
        reach(board.url)
    finally:
        agent.kill()
        agent.wait()


def test_a_key_that_the_board_does_not_know_is_refused(board: Board, home: Path) -> None:
    (home / "id_ed25519").unlink()
    make_key(home / "id_ed25519")
    with pytest.raises(PrivynetError, match=r"^ssh://.* takes none of the keys it was offered; ssh-copy-id"):
        reach(board.url)


def test_a_board_that_is_not_there_is_one_line(board: Board) -> None:
    with pytest.raises(
        PrivynetError, match=r"^ssh://127\.0\.0\.1:\d+ cannot be reached: .*; does ssh reach it"
    ):
        reach(f"ssh://127.0.0.1:{free_port()}")
    with pytest.raises(PrivynetError, match=r"^ssh://nobody\.invalid cannot be reached: "):
        reach("ssh://nobody.invalid")


@pytest.mark.parametrize("name", ["config", "known_hosts"])
def test_files_of_ssh_that_cannot_be_read_are_named(board: Board, home: Path, name: str) -> None:
    (home / name).write_text("Port many\n" if name == "config" else "host\n")
    with pytest.raises(InputError, match="cannot be read: "):
        reach(board.url)


def test_a_missing_library_is_said_with_its_extra(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(InputError, match=r"^asyncssh is not installed; pip install 'privynet\[ssh\]'$"):
        reach(board.url)
