"""Settings in words: a command line and a settings file, checked against dataclasses, with errors in the user's words.

The sentence under a dataclass's field is its help text.
"""

import difflib
import re
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from detr_lite.config.settings_file import read_settings_file
from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of


class SettingsParser:
    """Sections of settings (`--data.root`), each a dataclass, beside the words of a command that no file may hold."""

    def __init__(self, command: ArgumentParser, sections: Mapping[str, type], plain: Mapping[str, type]) -> None:
        """
        Args:
            command: holds the command's own words, and the plain settings.
            sections: name -> dataclass, whose fields become settings.
            plain: settings of `command` outside all sections, name -> type.
        """
        self.parser = command
        self.sections = sections
        self.settings: dict[str, Any] = dict(plain)
        """The type of every setting that a file may hold."""
        for name, section in sections.items():
            command.add_class_arguments(section, name)
            self.settings |= {f"{name}.{key}": hint for key, hint in get_type_hints(section).items()}
        for action in command._actions:
            if action.dest in sections:  # a whole section as a file: the library's own idea, and one way too many
                action.help = SUPPRESS

    def read(self, words: Sequence[str]) -> Namespace:
        """Errors: a word that is no setting (its nearest neighbour is named), a wrong type."""
        for word in words:
            if word.removeprefix("--").split("=")[0] in self.sections and word.startswith("--"):
                raise DetrLiteError(f"{word} is the heading of settings{self._nearest(word[2:])}; see --help")
        try:
            return self.parser.parse_args(list(words))
        except ArgumentError as error:
            text = " ".join(str(error).split())
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # values that YAML's own rules stumble over
            text = f"not readable as a setting: {reason_of(error)}"
        if text.startswith("unrecognized arguments:"):
            word = text.split()[2].split("=")[0]
            raise DetrLiteError(f"{word} is not a setting{self._nearest(word.lstrip('-'))}; see --help")
        # What the library tells at length, in the user's words: Parser key "seed": Expected a <class 'int'>. Got ...
        fault = re.match(r'Parser key "([\w.]+)":.* (?:Got|Given) value: ?(.*)$', text)
        if fault and fault[1] in self.settings:
            raise DetrLiteError(f"{fault[1]}: expected {_kind(self.settings[fault[1]])}, got {fault[2] or 'nothing'}")
        raise DetrLiteError(text)

    def words_of_file(self, path: Path) -> list[str]:
        """A settings file as words of a command line, each checked under the line that it stands on."""
        words = []
        for name, setting in read_settings_file(path).items():
            where = f"{path}, line {setting.line}"
            if name in self.sections and setting.text == "null":
                continue  # a heading below which everything is commented out
            if name not in self.settings:
                raise DetrLiteError(f"{where}: {name} is not a setting{self._nearest(name)}")
            words.append(f"--{name}={setting.text}")
            try:
                self.read(words[-1:])
            except DetrLiteError as error:
                raise DetrLiteError(f"{where}: {error}") from error
        return words

    def _nearest(self, name: str) -> str:
        options = [action.dest for action in self.parser._actions if action.dest not in self.sections]
        near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
        return f"; did you mean {near[0]}?" if near else ""


def fits(value: Any, hint: Any) -> bool:
    """Whether a value out of a file is of a setting's type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(fits(part, get_args(hint)[0]) for part in value)
    if get_origin(hint) in (Union, UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _kind(hint: Any) -> str:
    """A type in the user's words."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return "a list such as [8, 16, 32]"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_kind(option) for option in get_args(hint))
    return {NoneType: "null", bool: "true or false", str: "text"}.get(hint) or str(hint.__name__)
