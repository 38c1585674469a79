"""The command `detr-lite`: its list of commands, what it says of a wrong name, and that its help is quick."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from detr_lite import __version__
from detr_lite.cli.main import COMMANDS, main
from detr_lite.text import command_line

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """Exit code, stdout and stderr of `detr-lite WORDS`."""

    def call(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["/usr/local/bin/detr-lite", *words])
        with pytest.raises(SystemExit) as ending:
            main()
        return ending.value.code, *capsys.readouterr()

    return call


def test_help_lists_every_command_in_one_line(call: Callable[..., tuple[object, str, str]]) -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name:14}{summary}\n" in out


def test_the_version_is_that_of_the_package(call: Callable[..., tuple[object, str, str]]) -> None:
    assert call("--version") == (0, f"detr_lite {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "trian is not a command; did you mean train?; see detr-lite --help"),
        (["frobnicate"], "frobnicate is not a command; give one of train, evaluate,"),
        ([], "a command is missing; give one of train, evaluate,"),
        (["--verbose"], "unrecognized arguments: --verbose"),
        (["train", "--self_test"], "--self_test is now --overfit_check"),
        (["evaluate", "--checkpoints", "x"], "required: --checkpoint"),
    ],
)
@pytest.mark.slow
def test_wrong_words(call: Callable[..., tuple[object, str, str]], words: list[str], message: str) -> None:
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_names_it_as_it_was_called(
    call: Callable[..., tuple[object, str, str]], name: str
) -> None:
    code, out, err = call(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: detr-lite {name} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_no_torch(name: str) -> None:
    code = (
        "import sys; from detr_lite.cli.main import main\n"
        f"sys.argv = ['detr-lite', '{name}', '--help']\n"
        "try: main()\nexcept SystemExit: print([name for name in ('torch', 'timm', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_has_a_script_in_tools_that_does_the_same() -> None:
    for name, (module, _) in COMMANDS.items():
        assert f'main("{name}")' in (PROJECT / "tools" / f"{module}.py").read_text()


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("/usr/local/bin/detr-lite", "detr-lite import"),
        ("tools/train.py", "python tools/import_checkpoint.py"),
        ("/my project/tools/train.py", "python '/my project/tools/import_checkpoint.py'"),
        ("/project/tools/another.py", "detr-lite import"),
        ("/site-packages/detr_lite/__main__.py", "python -m detr_lite import"),
        ("/site-packages/pytest/__main__.py", "detr-lite import"),
        ("-c", "detr-lite import"),
        ("", "detr-lite import"),
    ],
)
def test_commands_to_paste_are_called_as_this_one_was(
    monkeypatch: pytest.MonkeyPatch, called: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert command_line("import") == expected
