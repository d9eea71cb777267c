"""The package takes the lessons and MNIST from where they lie in the repository. All else stands in
pyproject.toml, which cannot say this beside a search for fedlab's own packages."""

from setuptools import find_packages, setup

BROUGHT = {  # package -> folder; which of its files: package-data in pyproject.toml
    "fedlab.course": "notebooks",
    "fedlab.course.docs": "docs",
    "fedlab.course.flower": "flower",
    "fedlab.mnist": "data",
}

setup(packages=[*find_packages(include=["fedlab*"]), *BROUGHT], package_dir=BROUGHT)
