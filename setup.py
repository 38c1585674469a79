"""Puts `configs/` into the wheel as `detr_lite/configs/`; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    def run(self):
        if not self.editable_mode:  # or modules that an earlier build left there would be in the wheel
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if not self.editable_mode:  # an editable install reads configs/ where it stands
            target = Path(self.build_lib, "detr_lite", "configs")
            target.mkdir(parents=True, exist_ok=True)
            for file in Path("configs").glob("*.yaml"):
                self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": BuildWithConfigs})
