"""Puts `configs/` into the wheel as `detr_lite/configs/`; all else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:  # an editable install reads configs/ where it stands
            target = Path(self.build_lib, "detr_lite", "configs")
            target.mkdir(parents=True, exist_ok=True)
            for file in Path("configs").glob("*.yaml"):
                self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": BuildWithConfigs})
