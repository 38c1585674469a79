"""How a command ends: exit codes, and one line for what the user can mend."""

import errno
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from detr_lite.cli.command import CommandParser, one_line, run_command
from detr_lite.structures import DetrLiteError


def ending(error: BaseException | None, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    def main() -> None:
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    return caught.value.code, capsys.readouterr().err


def test_a_good_end_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(lambda: None)
    assert capsys.readouterr() == ("", "")


def test_what_the_user_can_mend_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(DetrLiteError("x.json: mend it"), capsys) == (2, "error: x.json: mend it\n")
    assert ending(DetrLiteError("first\n  second"), capsys) == (2, "error: first   second\n")
    assert ending(DetrLiteError(""), capsys) == (2, "error: unknown\n")


def test_a_file_that_cannot_be_written_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(PermissionError(13, "Permission denied", "/x/y"), capsys) == (2, "error: /x/y: Permission denied\n")


def test_ctrl_c_is_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(KeyboardInterrupt(), capsys) == (130, "stopped\n")


@pytest.mark.parametrize("fault", [ValueError("ours"), OSError("ours")])
def test_our_own_faults_keep_their_traceback(fault: Exception) -> None:
    def main() -> None:
        raise fault

    with pytest.raises(type(fault), match="ours"):
        run_command(main)


class Broken(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise DetrLiteError("image.png: not readable") from error


def test_the_message_of_a_loading_process_is_found_in_its_traceback() -> None:
    with pytest.raises(DetrLiteError) as caught:
        next(iter(DataLoader(Broken(), num_workers=1)))
    assert "Traceback" in str(caught.value)
    assert one_line(caught.value) == "image.png: not readable"


def test_a_wrong_command_line_is_one_line() -> None:
    parser = CommandParser(prog="tool")
    parser.add_argument("--count", type=int, required=True)
    with pytest.raises(DetrLiteError, match=r"^argument --count: invalid int value: 'x'; see --help$"):
        parser.parse_args(["--count", "x"])
    with pytest.raises(DetrLiteError, match="required: --count"):
        parser.parse_args([])


def test_a_reader_who_has_seen_enough_ends_a_tool_without_a_word():
    program = "from detr_lite.cli.command import run_command\nrun_command(lambda: print('a line\\n' * 100_000))"
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
        assert tool.stdout.readline() == b"a line\n"
        tool.stdout.close()
        assert tool.stderr.read() == b""
    assert tool.returncode == 141


def test_another_broken_pipe_is_no_such_reader():
    def main():
        raise BrokenPipeError(errno.EPIPE, "a process has gone")

    with pytest.raises(BrokenPipeError):
        run_command(main)
