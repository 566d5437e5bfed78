"""Packaging of mmdet_ft; `pip install -e .` in a checkout, or `pip install .` anywhere."""
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
HOTCOCO = 'hotcoco>=1.0.1; python_version >= "3.10"'  # COCO's metrics at once; pycocotools without it

# Equal to the versions in .ci/lint and .pre-commit-config.yaml.
LINT = [
    'yapf==0.43.0', 'isort==5.13.2', 'flake8==7.1.1', 'codespell==2.3.0', 'ruff==0.17.6',
    'mypy==2.4.1; python_version >= "3.10"'
]


def read_version():
    """The version as mmdet_ft/__init__.py states it, read without importing (torch may not be there yet)."""
    text = (ROOT / 'mmdet_ft' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.M).group(1)


def read_requirements():
    lines = (ROOT / 'requirements.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


class BuildWithConfigs(build_py):
    """Build the package, with configs/ in it; an editable install reads the folder of the checkout."""

    def run(self) -> None:
        super().run()
        if not getattr(self, 'editable_mode', False):
            target = Path(self.build_lib) / 'mmdet_ft' / 'configs'
            shutil.rmtree(target, ignore_errors=True)  # files of an earlier build
            shutil.copytree(
                ROOT / 'configs', target, ignore=shutil.ignore_patterns('__pycache__', 'work_dirs'))


setup(
    name='mmdet_ft',
    version=read_version(),
    description=
    'Fine-tune detectors, instance segmenters and classifiers from MMDetection-V2-style configs '
    "on today's PyTorch",
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.9',
    packages=find_packages(include=['mmdet_ft', 'mmdet_ft.*']),
    package_data={'mmdet_ft': ['datasets/classification/*.txt', 'datasets/detection/*.txt']},
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['mmdet-ft = mmdet_ft.commands.main:main']},
    install_requires=read_requirements(),
    extras_require={
        'tensorboard': ['tensorboard'],
        'cityscapes': ['cityscapesscripts'],
        'lvis': ['lvis'],
        'wider_face': ['scipy'],
        'albu': ['albumentations'],
        'fast_eval': [HOTCOCO],
        'plot': ['matplotlib'],
        'onnx': ['onnx', 'onnxruntime'],
        'tests':
        ['pytest', 'pytest-xdist', 'hypothesis', 'tensorboard', 'onnx', 'onnxruntime', HOTCOCO],
        'dev': ['pre-commit', *LINT],
    },
    classifiers=[
        'Programming Language :: Python :: 3',
        'Operating System :: OS Independent',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    zip_safe=False)
