"""README's first two shell lines, and what they rest on."""
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK_START = ROOT / 'tools' / 'sample' / 'quick_start.py'


def shell_lines():
    """All commands of README's shell blocks, in order."""
    blocks = re.findall(r'```(?:bash|sh|shell)\n(.*?)```',
                        (ROOT / 'README.md').read_text(encoding='utf-8'), re.S)
    return [
        line for block in blocks for line in block.splitlines()
        if line.strip() and not line.startswith('#')
    ]


def test_first_two_shell_lines_are_quick_start_and_tests():
    first, second = shell_lines()[:2]
    assert first == 'python3 tools/sample/quick_start.py'
    assert second == '.venv/bin/python -m pytest -n 2 --dist loadfile'


def test_ci_sets_up_and_tests_as_readme_does():
    script = (ROOT / '.ci' / 'run').read_text()
    assert 'python3 tools/sample/quick_start.py --setup-only' in script
    assert shell_lines()[1].replace('.venv/bin/python', '"$venv/bin/python"') in script


def test_quick_start_needs_the_standard_library_only():
    if not hasattr(sys, 'stdlib_module_names'):
        pytest.skip('Python 3.10 knows the names of its own modules')
    tree = ast.parse(QUICK_START.read_text(encoding='utf-8'))
    names = {
        alias.name
        for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split('.')[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    'page', ['README.md', *sorted(f'docs/{page.name}' for page in (ROOT / 'docs').glob('*.md'))])
def test_files_that_the_pages_name_exist(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    for link in re.findall(r'\]\(([^)#:]+)\)', text):
        assert (ROOT / page).parent.joinpath(link).exists(), link
    for path in re.findall(r'`((?:tools|configs|mmdet_ft|tests)/[\w/.]+?\.(?:py|sh|json|pth))`',
                           text):
        assert (ROOT / path).exists(), path


def test_python_that_is_too_old_is_told(tmp_path):
    code = ('import sys, runpy; sys.version_info = (3, 8, 0); '
            'sys.argv = ["quick_start.py", "--setup-only", "--venv", r"%s"]; '
            'runpy.run_path(r"%s", run_name="__main__")') % (tmp_path / 'venv', QUICK_START)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode != 0 and 'needs Python 3.9' in done.stderr and not (tmp_path /
                                                                               'venv').exists()


@pytest.mark.acceptance
def test_quick_start_reaches_its_figures(tmp_path):
    done = subprocess.run(
        [sys.executable, str(QUICK_START), '--venv',
         str(tmp_path / 'venv')],
        capture_output=True,
        text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'fine-tuned' in done.stdout


def test_versions_of_the_formatters_are_equal_wherever_they_stand():
    pinned = r'\b(\w+)==([\d.]+)'
    pins = dict(re.findall(pinned, (ROOT / '.ci' / 'lint').read_text()))
    assert set(pins) == {'yapf', 'isort', 'flake8', 'codespell', 'ruff', 'mypy'}
    assert pins == dict(re.findall(pinned, (ROOT / 'setup.py').read_text()))
    hooks = (ROOT / '.pre-commit-config.yaml').read_text()
    revisions = dict(re.findall(r'/(\w+)(?:-pre-commit)?\n    rev: v?([\d.]+)', hooks))
    # mypy runs in the environment of the package, with the version of the extra `dev`
    assert {
        name: revisions.get(name)
        for name in pins if name != 'mypy'
    } == {
        name: version
        for name, version in pins.items() if name != 'mypy'
    }
