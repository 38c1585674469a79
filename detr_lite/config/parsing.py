"""Parsing of settings files and command lines into the dataclasses of settings.

YAML is read as data: a tag that asks for code is an error. The text under a dataclass's field is its help text.
"""

import difflib
import re
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from detr_lite.config.renamed import renaming_of
from detr_lite.config.schema import ADDED, SECTIONS, Config
from detr_lite.errors import DetrLiteError
from detr_lite.io import atomic_write
from detr_lite.text import reason_of, shorten_list, shown

_NULL = "tag:yaml.org,2002:null"
AUTO = frozenset({"data.batch_size"})
"""Settings for which "auto" is another word for null: chosen from data and machine."""


class SettingsParser:
    """Settings in sections (`--data.root`), each a dataclass, beside the options of a command that no file may hold."""

    def __init__(self, command: ArgumentParser, sections: Mapping[str, type], plain: Mapping[str, type]) -> None:
        """
        Args:
            command: has the command's own options, and the plain settings.
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
            if action.dest in sections:  # jsonargparse would read a whole section from a file: --config is enough
                action.help = SUPPRESS

    def read(self, words: Sequence[str], base: Namespace | None = None) -> Namespace:
        """Parse the words of a command line; `base` replaces the defaults.

        Errors: an unknown option (the most similar one is named), one that has been renamed, a wrong type.
        """
        for word in words:
            name = word.removeprefix("--").split("=")[0]
            if not word.startswith("--"):
                continue
            if name in self.sections:
                raise DetrLiteError(f"{word} is a section of settings{self._nearest(name)}; see --help")
            renaming = renaming_of(name)
            if renaming is not None:
                raise DetrLiteError(f"--{name} is now --{renaming}")
        try:
            return self.parser.parse_args(_auto_as_null(words), namespace=base)
        except ArgumentError as error:
            text = " ".join(str(error).split())
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # values that YAML's own rules stumble over
            text = f"not readable as a setting: {reason_of(error)}"
        if text.startswith("unrecognized arguments:"):
            word = text.split()[2].split("=")[0]
            raise DetrLiteError(f"{word} is not a setting{self._nearest(word.lstrip('-'))}; see --help")
        # In plain words, for jsonargparse's: Parser key "seed": Expected a <class 'int'>. Got value: x
        fault = re.match(r'Parser key "([\w.]+)":.* (?:Got|Given) value: ?(.*)$', text)
        if fault and fault[1] in self.settings:
            raise DetrLiteError(f"{fault[1]}: expected {_kind(self.settings[fault[1]])}, got {fault[2] or 'nothing'}")
        raise DetrLiteError(text)

    def read_file(self, path: Path) -> Namespace:
        """Parse a settings file on top of the defaults.

        Errors: as `read`, with the line in the file.
        """
        words: dict[str, int] = {}
        for name, setting in read_settings_file(path).items():
            where = f"{path}, line {setting.line}"
            if name in self.sections and setting.text == "null":
                continue  # a section in which everything is commented out
            renaming = renaming_of(name)
            if renaming is not None:
                raise DetrLiteError(f"{where}: {name} is now {renaming}")
            if name not in self.settings:
                raise DetrLiteError(f"{where}: {name} is not a setting{self._nearest(name)}")
            words[f"--{name}={setting.text}"] = setting.line
        try:
            return self.read(list(words))
        except DetrLiteError:
            for word, line in words.items():  # only now: which of them is wrong
                try:
                    self.read([word])
                except DetrLiteError as error:
                    raise DetrLiteError(f"{path}, line {line}: {error}") from error
            raise

    def _nearest(self, name: str) -> str:
        options = [action.dest for action in self.parser._actions if action.dest not in self.sections]
        near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
        return f"; did you mean {near[0]}?" if near else ""


def _auto_as_null(words: Sequence[str]) -> list[str]:
    """Words of a command line in which "auto" is null where it means the same."""
    changed = list(words)
    for index, word in enumerate(words):
        if word.removeprefix("--").removesuffix("=auto") in AUTO and word.endswith("=auto"):
            changed[index] = f"{word.removesuffix('auto')}null"
        elif word == "auto" and index and words[index - 1].removeprefix("--") in AUTO:
            changed[index] = "null"
    return changed


def config_from_dict(settings: Mapping[str, Any]) -> Config:
    """Settings from a checkpoint.

    Errors: a setting that this version does not have, or that is missing; a value of another type.
    """
    try:
        given = {f"{section}.{name}" for section in SECTIONS for name in settings[section]}
        known = {f"{section}.{name}" for section, kind in SECTIONS.items() for name in get_type_hints(kind)}
        differences = [f"unknown: {shorten_list(sorted(given - known))}"] * bool(given - known)
        missing = known - given - ADDED
        differences += [f"missing: {shorten_list(sorted(missing))}"] * bool(missing)
        if differences:
            raise DetrLiteError(f"the settings were written by another version of detr_lite ({'; '.join(differences)})")
        config = config_of(settings)
    except (TypeError, KeyError, AttributeError) as error:
        raise DetrLiteError(f"the settings were written by another version of detr_lite ({error})") from error
    for section, kind in SECTIONS.items():
        for name, hint in get_type_hints(kind).items():
            value = getattr(getattr(config, section), name)
            if not fits(value, hint):
                raise DetrLiteError(f"the settings are damaged: {section}.{name} is {shown(value)}")
    return config


def config_of(settings: Mapping[str, Any]) -> Config:
    """The dataclasses for a dictionary of sections; lists become tuples, so that equal settings compare equal."""
    sections = {
        name: kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in settings[name].items()})
        for name, kind in SECTIONS.items()
    }
    return Config(**sections, seed=settings["seed"])


def config_to_dict(config: Config) -> dict[str, Any]:
    """Settings as plain types, for a checkpoint."""
    return asdict(config)


def write_config(config: Config, path: Path) -> None:
    """Write the settings as a file for `--config`; an old file stays whole if this fails."""
    write_settings(asdict(config), path)


def write_settings(settings: Mapping[str, Any], path: Path) -> None:
    """Write settings of any task, as `write_config`."""
    text = yaml.safe_dump(dict(settings), sort_keys=False)
    # Not durable: a run that a power cut ends before its first checkpoint has nothing to lose.
    atomic_write(path, lambda file: file.write(text.encode()), durable=False)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value has a setting's type."""
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
    """A type in plain words."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return "a list such as [8, 16, 32]"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_kind(option) for option in get_args(hint))
    return {NoneType: "null", bool: "true or false", str: "text"}.get(hint) or str(hint.__name__)


@dataclass(frozen=True)
class Setting:
    """A value as it stands in the file, and its line."""

    text: str
    line: int


def read_settings_file(path: Path) -> dict[str, Setting]:
    """Read a mapping of mappings as {"data.root": Setting}; a value at the top level keeps its plain name.

    Errors: not text, not YAML, a tag that asks for code, a key given twice; each with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        yaml.safe_load(text)  # refuses every tag that is not plain data
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (UnicodeDecodeError, OSError) as error:
        raise DetrLiteError(f"{path}: not a readable text file ({error})") from error
    except Exception as error:  # beside YAML's own errors those of invalid dates and numbers, and of deep nesting
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise DetrLiteError(f"{where}: not plain YAML: {reason}") from error
    if root is None or root.tag == _NULL:
        return {}
    settings: dict[str, Setting] = {}
    _flatten(root, "", path, settings)
    return settings


def _flatten(node: yaml.Node, name: str, path: Path, settings: dict[str, Setting]) -> None:
    line = node.start_mark.line + 1
    # Two levels only: an anchor that contains itself would have no end.
    if isinstance(node, yaml.MappingNode) and "." not in name:
        for key, value in node.value:
            _flatten(value, f"{name}.{key.value}" if name else str(key.value), path, settings)
    elif isinstance(node, yaml.ScalarNode | yaml.SequenceNode) and name:
        if name in settings:
            raise DetrLiteError(f"{path}, line {line}: {name} is given twice, first on line {settings[name].line}")
        settings[name] = Setting(_text(node, path), line)
    else:
        raise DetrLiteError(f"{path}, line {line}: expected settings such as 'data:' and below it 'root: FOLDER'")


def _text(node: yaml.ScalarNode | yaml.SequenceNode, path: Path) -> str:
    """A value as on a command line; all of YAML's spellings of null become "null"."""
    if isinstance(node, yaml.ScalarNode):
        return "null" if node.tag == _NULL else str(node.value)
    if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
        raise DetrLiteError(f"{path}, line {node.start_mark.line + 1}: expected a plain list such as [8, 16, 32]")
    return f"[{', '.join(item.value for item in node.value)}]"
