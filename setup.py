"""Package metadata of aimc-sim. Why setup.py and not pyproject.toml: docs/adr/0001-package-mapping.md."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Two packages live at the top level of the repository and below aimc_sim in an installation.
MAPPED = {"aimc_sim.kernels": "kernels", "aimc_sim.models": "models"}


def packages() -> list[str]:
    names = find_packages(include=["aimc_sim", "aimc_sim.*"])
    for package, folder in MAPPED.items():
        names.append(package)
        names += [f"{package}.{inner}" for inner in find_packages(folder)]
    return sorted(names)


EXTRAS = {
    "llm": [
        "transformers>=4.56",
        "accelerate>=1.0",
        "tokenizers>=0.20",
        "safetensors>=0.4.5",
        "gguf>=0.10",
    ],
    "eval": ["lm-eval>=0.4.13", "datasets>=2.20"],
    "report": ["matplotlib>=3.8", "plotly>=5.20", "jinja2>=3.1"],
    "train": ["peft>=0.13", "tensorboard>=2.14", "datasets>=2.20"],
    "cluster": ["ray>=2.30"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "hypothesis>=6.100",
        "ruff>=0.6",
        "mypy>=1.11",
        "build>=1.2",
        "setuptools>=77",
        "wheel>=0.43",
    ],
}

setup(
    name="aimc-sim",
    version="0.1.0",
    description="What happens to a trained language model when its weights live in analog crossbar tiles",
    long_description=(HERE / "README.md").read_text(encoding="utf-8")
    if (HERE / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=packages(),
    package_dir=MAPPED,
    package_data={
        "aimc_sim": [
            "py.typed",
            "hardware/presets/*.toml",
            "devices/*.toml",
            "sizing/cost/profiles/*.toml",
            "sizing/sweep/templates/*",
            "report/templates/*",
            "signoff/report/templates/*",
            "attribution/templates/*",
            "evaluate/afm_tasks/*.yaml",
        ],
        "aimc_sim.models": ["*.toml"],
    },
    install_requires=[
        "numpy>=1.26",
        "numba>=0.60",
        "scipy>=1.11",
        "h5py>=3.10",
        "torch>=2.6",
        "pydantic>=2.7",
        "typer>=0.12",
        "rich>=13.7",
        "tomli>=2.0; python_version < '3.11'",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["aimc-sim=aimc_sim.cli.app:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
)
