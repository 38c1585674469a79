"""The command line of training: which settings file, which run folder, and the settings themselves."""

from argparse import ArgumentParser as PlainParser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jsonargparse import ArgumentParser, set_parsing_settings

from detr_lite.config.parsing import SettingsParser, config_of
from detr_lite.config.presets import available_presets, find_config
from detr_lite.config.schema import SECTIONS, Config
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line


@dataclass(frozen=True)
class Invocation:
    """What one call of `detr-lite train` asks for: the settings, and where to write or find the run."""

    config: Config
    config_name: str
    run_dir: Path | None
    resume: str | None
    """"last", or the path of a checkpoint."""
    overwrite: bool
    replay: Path | None = None
    """A saved batch to compute again; there is no run then, and the settings are those of its file."""
    overfit_check: bool = False
    """Overfit one batch before the run."""
    draw_augmented: Path | None = None
    """A picture of training images; there is no run then."""


def read_config(arguments: Sequence[str], program: str | None = None) -> Invocation:
    """Settings from the defaults, then the file of `--config`, then the command line, in whatever order it is given.

    Errors: no or an unknown file, an unknown setting (the most similar one is named), a renamed one, a wrong type.
    """
    parser = _parser(program or command_line("train"))
    name = None if {"-h", "--help"} & {*arguments} else _config_argument(arguments)
    path = None if name is None else find_config(name)
    given = parser.read(arguments, None if path is None else parser.read_file(path))
    on_command_line = {word.split("=")[0] for word in arguments if word.startswith("--")}
    if given.replay is not None:
        others = on_command_line - {"--replay"}
        if others:
            raise DetrLiteError(f"--replay takes all settings from its file; leave out {', '.join(sorted(others))}")
        return Invocation(Config(), "replay", None, None, False, replay=Path(given.replay))
    if path is None:
        raise DetrLiteError(f"--config is missing; give a settings file: your own or {', '.join(available_presets())}")
    config = config_of(given.as_dict())

    if {"--trainer.max_epochs", "--trainer.max_minutes"} <= on_command_line:
        raise DetrLiteError("give --trainer.max_epochs or --trainer.max_minutes, not both")
    if given.resume is not None and given.overwrite:
        raise DetrLiteError("give --resume or --overwrite, not both")
    if given.resume is not None and given.overfit_check:
        raise DetrLiteError("--overfit_check is for new runs; leave out --overfit_check or --resume")
    picture = given.draw_augmented
    if picture is not None and Path(picture).suffix.lower() != ".png":
        raise DetrLiteError(f"--draw_augmented {picture}: the picture is a PNG; give a name that ends in .png")
    run_options = on_command_line & {"--run_dir", "--resume", "--overwrite", "--overfit_check"}
    if given.draw_augmented is not None and run_options:
        raise DetrLiteError(f"--draw_augmented starts no run; leave out {', '.join(sorted(run_options))}")
    trainer = config.trainer
    if "--trainer.max_epochs" in on_command_line:
        trainer = replace(trainer, max_minutes=None)
    elif trainer.max_minutes is not None:
        trainer = replace(trainer, max_epochs=None)
    return Invocation(
        config=replace(config, trainer=trainer),
        config_name=path.stem,
        run_dir=None if given.run_dir is None else Path(given.run_dir),
        resume=given.resume,
        overwrite=given.overwrite,
        overfit_check=given.overfit_check,
        draw_augmented=None if given.draw_augmented is None else Path(given.draw_augmented),
    )


def _config_argument(arguments: Sequence[str]) -> str | None:
    """The value of `--config`, which is needed before the other arguments are parsed on top of that file."""
    parser = PlainParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", nargs="?")  # without a value it is an error of the full parser
    name: str | None = parser.parse_known_args(list(arguments))[0].config
    return name


def _parser(program: str) -> SettingsParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    command = ArgumentParser(
        prog=program,
        usage=f"{program} --config CONFIG [options]",
        description="Train a detector, evaluate the best checkpoint on the validation images, and draw its predictions "
        "and attention.",
        epilog=f"Settings on the command line replace those of the file. Presets: {', '.join(available_presets())}.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add = command.add_argument
    add("--config", help="Settings file: a path, or the name of a preset.")
    add("--run_dir", help="Run folder; by default runs/CONFIG, or the next free runs/CONFIG-2.")
    add("--resume", nargs="?", const="last", help="Resume from the last checkpoint in RUN_DIR, or from this one.")
    add("--overwrite", action="store_true", help="Replace the run in RUN_DIR.")
    add("--overfit_check", action="store_true", help="Before the run, overfit some of its images, in under a minute.")
    add("--draw_augmented", metavar="PNG", help="Draw some training images as the model would get them, and stop.")
    replay = "Compute a batch from RUN_DIR/nonfinite again, module by module, to find where NaN or infinity arises."
    add("--replay", metavar="FILE", help=f"{replay} Takes no other options.")
    add("--seed", type=int, default=Config.seed, help="Seed of weights, data order and augmentation.")
    return SettingsParser(command, SECTIONS, plain={"seed": int})
