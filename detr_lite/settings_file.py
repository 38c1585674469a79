"""A settings file as flat names with the lines they stand on. YAML as data: tags that ask for code are errors."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from detr_lite.structures import DetrLiteError


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
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise DetrLiteError(f"{where}: not plain YAML: {getattr(error, 'problem', None) or error}") from error
    if root is None:
        return {}
    settings: dict[str, Setting] = {}
    _flatten(root, "", path, settings)
    return settings


def _flatten(node: yaml.Node, name: str, path: Path, settings: dict[str, Setting]) -> None:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _flatten(value, f"{name}.{key.value}" if name else str(key.value), path, settings)
    elif isinstance(node, yaml.ScalarNode) and name:
        if name in settings:
            raise DetrLiteError(f"{path}, line {line}: {name} is given twice, first on line {settings[name].line}")
        # What YAML reads as nothing ("", "~", "null") is written in one way.
        is_nothing = node.tag == "tag:yaml.org,2002:null"
        settings[name] = Setting("null" if is_nothing else node.value, line)
    else:
        raise DetrLiteError(f"{path}, line {line}: expected settings such as 'data:' and below it 'root: FOLDER'")
