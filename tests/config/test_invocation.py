"""The command line of training: precedence, what is refused and in which words, and the help of every setting."""

import dataclasses
import re
from pathlib import Path

import pytest

from detr_lite.config import (
    SECTIONS,
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TrainerConfig,
    config_from_dict,
    config_to_dict,
    find_config,
    read_config,
    write_config,
)
from detr_lite.config.parsing import SettingsParser
from detr_lite.config.renamed import RENAMED
from detr_lite.structures import DetrLiteError

SETTINGS = {f"{name}.{field.name}" for name, section in SECTIONS.items() for field in dataclasses.fields(section)}


@pytest.fixture
def settings(tmp_path: Path):
    """Write a settings file; gives its path as the words of a command line."""

    def write(text: str) -> list[str]:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return ["--config", str(path)]

    return write


def refused(words: list[str]) -> str:
    with pytest.raises(DetrLiteError) as caught:
        read_config(words)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_empty_file_leaves_every_default(settings) -> None:
    assert read_config(settings("")).config == Config()


def test_the_file_wins_over_defaults_and_the_command_line_over_the_file(settings) -> None:
    words = settings("data: {batch_size: 3, image_size: 96}\nmodel:\n  name: detr\nseed: 5\n")
    config = read_config([*words, "--data.image_size", "128", "--seed=6"]).config
    assert (config.data.batch_size, config.data.image_size, config.model.name, config.seed) == (3, 128, "detr", 6)
    assert config.data.num_workers == DataConfig.num_workers


def test_the_command_line_wins_wherever_its_words_stand(settings) -> None:
    words = settings("data:\n  batch_size: 3\noptim:\n  lr: 0.5\n")
    before = read_config(["--data.batch_size", "7", "--optim.lr=1e-3", *words])
    after = read_config([*words, "--optim.lr=1e-3", "--data.batch_size", "7"])
    assert before == after
    assert before.config.data.batch_size == 7
    assert before.config.optim.lr == 1e-3


def test_of_a_word_given_twice_the_last_counts(settings) -> None:
    assert read_config([*settings(""), "--seed", "1", "--seed", "2"]).config.seed == 2


def test_flat_names_in_a_file_and_headings_without_settings(settings) -> None:
    config = read_config(settings("data.batch_size: 2\nmodel:\n  # name: detr\nloss: ~\n")).config
    assert config == Config(data=DataConfig(batch_size=2))


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("", [], (50, None)),
        ("trainer: {max_minutes: 12}", [], (None, 12)),
        ("trainer: {max_epochs: 3}", [], (3, None)),
        ("trainer: {max_epochs: 3, max_minutes: 12}", [], (None, 12)),
        ("trainer: {max_minutes: 12}", ["--trainer.max_epochs", "4"], (4, None)),
        ("trainer: {max_minutes: 12}", ["--trainer.max_epochs=4"], (4, None)),
        ("trainer: {max_epochs: 3}", ["--trainer.max_minutes", "0.5"], (None, 0.5)),
        ("trainer: {max_epochs: 3, max_minutes: null}", [], (3, None)),
        ("trainer: {max_epochs: null, max_minutes: 2}", [], (None, 2)),
    ],
)
def test_a_run_is_as_long_as_the_last_word_on_it(settings, text: str, words: list[str], expected: tuple) -> None:
    trainer = read_config([*settings(text), *words]).config.trainer
    assert (trainer.max_epochs, trainer.max_minutes) == expected


@pytest.mark.parametrize("form", ["--trainer.max_epochs 3 --trainer.max_minutes 4",
                                  "--trainer.max_minutes=4 --trainer.max_epochs=3"])  # fmt: skip
def test_both_lengths_on_the_command_line_are_refused(settings, form: str) -> None:
    assert refused([*form.split(), *settings("")]) == "give --trainer.max_epochs or --trainer.max_minutes, not both"


def test_no_length_at_all_is_refused(settings) -> None:
    assert "max_epochs" in refused([*settings(""), "--trainer.max_epochs", "null"])


def test_bare_names_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with_ending, without = read_config(["--config", "coco_small.yaml"]), read_config(["--config", "coco_small"])
    assert with_ending == without
    assert with_ending.config_name == "coco_small"


def test_a_file_here_wins_over_the_projects_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("coco_small.yaml").write_text("seed: 77\n")
    assert read_config(["--config", "coco_small.yaml"]).config.seed == 77


def test_a_missing_file_lists_what_exists() -> None:
    with pytest.raises(DetrLiteError, match=r"--config coco_smal\.yaml: no such file.*coco_small\.yaml"):
        find_config("coco_smal.yaml")
    assert "coco_small.yaml" in refused([])
    assert "coco_small.yaml" in refused(["--config", "/"])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--data.rot x", ["--data.rot is not a setting; did you mean data.root?"]),
        ("--model.num_querys=3", ["--model.num_querys is not a setting; did you mean model.num_queries?"]),
        ("--rundir x", ["did you mean run_dir?"]),
        ("--learning_rate 1", ["--learning_rate is not a setting"]),
        ("--data.batch 3", ["--data.batch is not a setting; did you mean data.batch_size?"]),  # no abbreviations
        ("stray", ["stray is not a setting"]),
        ("--data.batch_size two", ["data.batch_size: expected int or null, got two"]),
        ("--model.dim 2.5", ["model.dim: expected int, got 2.5"]),
        ("--model.dim true", ["model.dim: expected int, got"]),
        ("--data.num_workers two", ["data.num_workers: expected int or null, got two"]),
        ("--trainer.max_minutes soon", ["trainer.max_minutes: expected float or null, got soon"]),
        ("--model.name yolo", ["model.name: expected one of lite, detr, transformers, got yolo"]),
        ("--trainer.precision half", ["trainer.precision: expected one of auto, 32-true, bf16-mixed, 16-mixed"]),
        ("--optim.lr [1,2]", ["optim.lr: expected float"]),
        ("--model.dim=", ["model.dim: expected int, got nothing"]),
        ("--model.dim null", ["model.dim: expected int, got"]),
        ("--model.strides 16", ["model.strides: expected a list such as [8, 16, 32], got 16"]),
        ("--model.strides [16,8]", ["model.strides is [16, 8]", "ascending multiples"]),
        ("--model.strides [8,20]", ["model.strides is [8, 20]", "ascending multiples"]),
        ("--model.strides []", ["model.strides is []"]),
        ("--model.strides [0,8]", ["model.strides is [0, 8]"]),
        ("--optim.ema_decay 1", ["optim.ema_decay is 1.0", "less than 1"]),
        ("--seed x", ["seed: expected int, got x"]),
        ("--data.batch_size 0", ["data.batch_size is 0", "at least 1"]),
        ("--optim.lr=-1e-3", ["optim.lr is -0.001", "at least 0"]),
        ("--optim.lr .nan", ["optim.lr is nan"]),
        ("--optim.lr .inf", ["optim.lr is inf"]),
        ("--trainer.max_minutes .inf", ["trainer.max_minutes is inf"]),
        ("--model.dropout 1.5", ["model.dropout is 1.5", "at most 1"]),
        ("--model.query_dedup_iou 1.1", ["model.query_dedup_iou is 1.1", "at most 1"]),
        ("--model.query_dedup_iou=-0.1", ["model.query_dedup_iou is -0.1", "at least 0"]),
        ("--model.denoising_noise 1.5", ["model.denoising_noise is 1.5", "at most 1"]),
        ("--model.denoising_noise=-0.1", ["model.denoising_noise is -0.1", "at least 0"]),
        ("--model.denoising_noise 0", ["model.denoising_noise is 0", "give more", "--model.denoising_queries 0"]),
        ("--optim.lr_hold 2", ["optim.lr_hold is 2", "at most 1"]),
        ("--model.dim 98", ["model.dim is 98", "divisible by 4"]),
        ("--model.dim 96 --model.heads 5", ["model.dim is 96", "model.heads (5)"]),
        ("--seed -1", ["seed is -1"]),
        ("--seed 4294967296", ["seed is 4294967296"]),
        ("--resume --overwrite", ["--resume or --overwrite, not both"]),
        ("--run_dir", ["--run_dir: expected one argument"]),
        ("--data x.yaml", ["--data is a section of settings; did you mean data.root?"]),
        ("--data={root:x}", ["is a section of settings"]),
    ],
)
def test_a_wrong_command_line_is_one_line_in_plain_words(settings, words: str, parts: list[str]) -> None:
    message = refused([*settings(""), *words.split()])
    for part in parts:
        assert part in message
    for word in ("class '", "Union", "Parser", "typing", "NoneType"):
        assert word not in message
    assert len(message) < 150


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data:\n  rot: x\n", ["mine.yaml, line 2: data.rot is not a setting; did you mean data.root?"]),
        ("seed: 1\nmodle:\n  name: lite\n", ["mine.yaml, line 3: modle.name", "did you mean model.name?"]),
        ("seed: 1\n\nmodel:\n  dim: many\n", ["mine.yaml, line 4: model.dim: expected int, got many"]),
        ("data:\n  num_workers: many\n", ["mine.yaml, line 2: data.num_workers: expected int or null, got many"]),
        ("data:\n  batch_size: 0\n", ["data.batch_size is 0"]),
        ("data: 5\n", ["mine.yaml, line 1: data is not a setting"]),
        ("config: x.yaml\n", ["mine.yaml, line 1: config is not a setting"]),
        ("run_dir: x\n", ["mine.yaml, line 1: run_dir is not a setting"]),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(settings, text: str, parts: list[str]) -> None:
    message = refused(settings(text))
    for part in parts:
        assert part in message


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_setting_is_refused_with_its_new_name(settings, old: str, new: str) -> None:
    assert refused([*settings(""), f"--{old}", "1"]).startswith(f"--{old} is now --{new}")
    assert refused([f"--{old}=1"]).startswith(f"--{old} is now --{new}")
    assert f"mine.yaml, line 2: {old} is now {new}" in refused(settings(f"seed: 1\n{old}: 1\n"))
    if "." in old:
        section, name = old.split(".")
        assert f"mine.yaml, line 3: {old} is now {new}" in refused(settings(f"seed: 1\n{section}:\n  {name}: 1\n"))
        assert new in SETTINGS
        assert old not in SETTINGS


def test_an_old_value_is_refused_with_its_new_name(settings) -> None:
    line = "model.edges is now model.box_head (values: regression for numbers, fdr for distributions)"
    assert refused(settings("model: {edges: numbers}\n")).endswith(f"line 1: {line}")


def test_each_word_is_parsed_once(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    read = SettingsParser.read

    def count(self, words, base=None):
        parsed.extend(words)
        return read(self, words, base)

    monkeypatch.setattr(SettingsParser, "read", count)
    words = [*settings("data: {batch_size: 3}\nseed: 5\n"), "--seed", "6"]
    assert read_config(words).config.seed == 6
    assert parsed == ["--data.batch_size=3", "--seed=5", *words]


@pytest.mark.parametrize("name", SECTIONS)
def test_help_has_the_sentence_of_every_setting(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_config(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for setting in dataclasses.fields(SECTIONS[name]):
        entry = re.search(rf"^  --{name}\.{setting.name} \S.*\n?(?:^ {{4,}}.*\n)*", text, re.MULTILINE)
        assert entry, setting.name
        # What is left beside the name, the type and the default is the sentence.
        sentence = re.sub(r"--\S+|\(type:.*", "", " ".join(entry[0].split()))
        assert len(sentence.split()) >= 3, entry[0]
        assert "default:" in " ".join(entry[0].split()), entry[0]


def test_help_explains_what_is_not_a_setting_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_config(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option in ("--config", "--run_dir", "--resume", "--overwrite", "--seed"):
        assert option in text
    assert "coco_small.yaml" in text
    for section in SECTIONS.values():
        assert (section.__doc__ or "").rstrip(".") in text


def test_resume_and_run_dir(settings) -> None:
    words = settings("")
    assert read_config(words).resume is None
    assert read_config([*words, "--resume"]).resume == "last"
    assert read_config(["--resume", *words]).resume == "last"
    assert read_config([*words, "--resume", "other.ckpt"]).resume == "other.ckpt"
    invocation = read_config([*words, "--run_dir", "somewhere", "--overwrite"])
    assert (invocation.run_dir, invocation.overwrite) == (Path("somewhere"), True)


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(
            data=DataConfig(root="with space: and # signs", num_workers=3),
            model=ModelConfig(name="detr", dropout=0.1),
            optim=OptimConfig(lr=1e-5, decay_all=True),
            trainer=TrainerConfig(max_epochs=None, max_minutes=0.25, devices=2),
            seed=2**32 - 1,
        ),
        Config(data=DataConfig(root="null"), trainer=TrainerConfig(devices="0,1")),
        Config(data=DataConfig(root="123"), trainer=TrainerConfig(max_epochs=7)),
    ],
)
def test_what_is_written_reads_back_equal(config: Config, tmp_path: Path) -> None:
    write_config(config, tmp_path / "config.yaml")
    assert read_config(["--config", str(tmp_path / "config.yaml")]).config == config


def test_settings_through_a_dict_and_back() -> None:
    config = Config(model=ModelConfig(num_queries=7), seed=3)
    assert config_from_dict(config_to_dict(config)) == config


@pytest.mark.parametrize("change", ["lack", "unknown", "section", "type"])
def test_settings_of_another_version_are_refused(change: str) -> None:
    settings = config_to_dict(Config())
    if change == "lack":
        del settings["seed"]
    elif change == "unknown":
        settings["model"]["color"] = "red"
    elif change == "section":
        settings["model"] = None
    else:
        settings["model"]["dim"] = "wide"
    with pytest.raises(DetrLiteError, match="another version of detr_lite"):
        config_from_dict(settings)


@pytest.mark.parametrize(
    "words", [["--data.batch_size", "auto"], ["--data.batch_size=auto"], ["--data.batch_size=null"]]
)
def test_auto_leaves_the_batch_size_open(words, settings):
    assert read_config([*settings("data:\n  batch_size: 7\n"), *words]).config.data.batch_size is None
    assert read_config(settings("data:\n  batch_size: auto\n")).config.data.batch_size is None
    assert read_config([*settings(""), *words, "--trainer.devices", "auto"]).config.trainer.devices == "auto"
