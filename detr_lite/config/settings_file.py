"""A settings file as flat names with the lines they stand on. YAML as data: tags that ask for code are errors."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from detr_lite.structures import DetrLiteError

NOTHING = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Setting:
    """A value as written in the file, and the line that it stands on."""

    text: str
    line: int


def read_settings_file(path: Path) -> dict[str, Setting]:
    """Read a mapping of mappings to {"data.root": Setting}; a value at the top level keeps its plain name.

    Errors: not text, not YAML, a tag that asks for code, a key given twice; each with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        yaml.safe_load(text)  # refuses every tag that is not plain data
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (UnicodeDecodeError, OSError) as error:
        raise DetrLiteError(f"{path}: not a readable text file ({error})") from error
    except Exception as error:  # beside YAML's own, those of dates and numbers that are none, and of bottomless lists
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise DetrLiteError(f"{where}: not plain YAML: {reason}") from error
    if root is None or root.tag == NOTHING:
        return {}
    settings: dict[str, Setting] = {}
    _flatten(root, "", path, settings)
    return settings


def _flatten(node: yaml.Node, name: str, path: Path, settings: dict[str, Setting]) -> None:
    line = node.start_mark.line + 1
    # Two floors and no more: an anchor that contains itself would have no end.
    if isinstance(node, yaml.MappingNode) and "." not in name:
        for key, value in node.value:
            _flatten(value, f"{name}.{key.value}" if name else str(key.value), path, settings)
    elif isinstance(node, yaml.ScalarNode | yaml.SequenceNode) and name:
        if name in settings:
            raise DetrLiteError(f"{path}, line {line}: {name} is given twice, first on line {settings[name].line}")
        # What YAML reads as nothing ("", "~", "null") is written in one way.
        settings[name] = Setting(_text(node, path), line)
    else:
        raise DetrLiteError(f"{path}, line {line}: expected settings such as 'data:' and below it 'root: FOLDER'")


def _text(node: yaml.ScalarNode | yaml.SequenceNode, path: Path) -> str:
    """A value as it would stand on a command line."""
    if isinstance(node, yaml.ScalarNode):
        return "null" if node.tag == NOTHING else str(node.value)
    if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
        raise DetrLiteError(f"{path}, line {node.start_mark.line + 1}: expected a plain list such as [8, 16, 32]")
    return f"[{', '.join(item.value for item in node.value)}]"
