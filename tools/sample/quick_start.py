"""The main job from nothing, on any machine: set up, draw a sample, fine-tune, evaluate, compare with no pretraining.

    python3 tools/sample/quick_start.py

needs Python 3.9 or newer and the package index, no GPU and no data. It makes a virtual environment (--venv, .venv by default),
installs the project there, draws street scenes in the layout of Cityscapes, converts them, loads a checkpoint of
eighty other classes, replaces its heads, fine-tunes, evaluates and leaves pictures of predictions beside the truth. Then the
same number of iterations from scratch, and a table of both. This file itself uses the standard library only.
"""
import argparse
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'data' / 'cityscapes_sample'
WORK = ROOT / 'work_dirs' / 'quick_start'
RUNS = (('fine-tuned', 'mask_rcnn_slim_ft'), ('from scratch', 'mask_rcnn_slim_scratch'))
METRICS = ('bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50')
AT_LEAST, ABOVE_SCRATCH = .5, .1  # of segm_mAP_50: what pretraining has to give, or something is broken


def say(text):
    print(f'\n== {text}', flush=True)


def run(command, log, show=()):
    """Run a command of the project with its output in `log`, repeating on the screen lines that contain one of `show`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    shown = ' '.join(os.path.relpath(part, ROOT) if str(part).startswith(str(ROOT)) else str(part) for part in command)
    print(f'$ {shown}', flush=True)
    with open(log, 'w', encoding='utf-8') as file:
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8', errors='replace')
        for line in process.stdout:
            file.write(line)
            if any(part in line for part in show):
                print('  ' + line.rstrip()[:220], flush=True)
    if process.wait() != 0:
        lines = log.read_text(encoding='utf-8').splitlines()
        print('\n'.join(lines[-30:]), file=sys.stderr)
        sys.exit(f'\nthis step failed with exit code {process.returncode}; all of its output is in {log}')


def set_up(folder, work):
    """A virtual environment with the project in it; returns its python. Quick where it is there already."""
    folder = Path(folder)
    python = folder / ('Scripts' if os.name == 'nt' else 'bin') / ('python.exe' if os.name == 'nt' else 'python')
    if not python.exists():
        try:
            venv.create(folder, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit(f'{sys.executable} cannot make virtual environments with pip; on Debian and Ubuntu: apt install python3-venv')
    # The path is made absolute without following links: bin/python links to the system's.
    python = Path(os.path.abspath(python))
    # setuptools by name: an editable install is then built without a second environment.
    run([python, '-m', 'pip', 'install', '--disable-pip-version-check', '--upgrade', 'setuptools', 'wheel'], work / 'setup.log')
    run([python, '-m', 'pip', 'install', '--disable-pip-version-check', '--no-build-isolation', '-e', '.[tests]'], work / 'install.log',
        show=('Successfully installed mmdet', ))
    return python


def evaluate(python, config, checkpoint, folder):
    """Metrics of a checkpoint by tools/test.py, which also leaves results.pkl."""
    for old in folder.glob('eval_*.json'):
        old.unlink()
    run([python, ROOT / 'tools/test.py', config, checkpoint, '--eval', 'bbox', 'segm', '--out', folder / 'results.pkl', '--work-dir', folder],
        folder / 'test.log')
    newest = max(folder.glob('eval_*.json'))
    return json.loads(newest.read_text(encoding='utf-8'))['metric']


def table(rows):
    """(name, seconds, metrics) of each run, as text."""
    lines = [f'{"":14}' + ''.join(f'{name:>14}' for name in METRICS) + f'{"training":>12}']
    for name, seconds, metrics in rows:
        lines.append(f'{name:14}' + ''.join(f'{metrics[key]:14.3f}' for key in METRICS) + f'{seconds:10.0f} s')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description='The main job on a drawn sample, from nothing')
    parser.add_argument('--venv', default=str(ROOT / '.venv'), help='folder of the virtual environment')
    parser.add_argument('--setup-only', action='store_true', help='make the environment and stop')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cfg-options', nargs='+', default=[], help='KEY=VALUE to put over both configs')
    args = parser.parse_args()
    if sys.version_info < (3, 9):
        sys.exit(f'mmdet_ft needs Python 3.9 or newer; this is {sys.version.split()[0]}')
    start = time.time()

    say(f'1. An environment in {os.path.relpath(args.venv, ROOT)} with the project and what it needs')
    python = set_up(args.venv, WORK)
    if args.setup_only:
        return
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []

    say('2. Street scenes in the layout of Cityscapes, and their annotation files')
    run([python, ROOT / 'tools/sample/street_scenes.py', DATA, '--seed', args.seed], WORK / 'draw.log', show=('images', ))
    run([python, ROOT / 'tools/dataset_converters/cityscapes.py', DATA, '--nproc', 2, '--out-dir', DATA / 'annotations'], WORK / 'convert.log',
        show=('instances', ))

    rows = []
    for number, (name, stem) in enumerate(RUNS, 3):
        config, folder = ROOT / f'configs/sample/{stem}.py', WORK / stem
        say(f'{number}. ' + ('Fine-tune from eighty other classes to the eight of Cityscapes' if number == 3 else
                             'The same number of iterations without pretraining'))
        began = time.time()
        run([python, ROOT / 'tools/train.py', config, '--work-dir', folder, '--seed', args.seed, *options], folder / 'train.log',
            show=('loaded ', 're-initialised', '[60/60]'))
        seconds = time.time() - began
        rows.append((name, seconds, evaluate(python, config, folder / 'latest.pth', folder)))
        run([python, ROOT / 'tools/sample/draw_results.py', config, folder / 'results.pkl', '--out', folder / 'pictures'], folder / 'pictures.log',
            show=('pictures', ))

    say(f'Done in {(time.time() - start) / 60:.1f} minutes')
    print(table(rows))
    fine_tuned, scratch = (metrics['segm_mAP_50'] for _, _, metrics in rows)
    pictures = os.path.relpath(WORK / RUNS[0][1] / 'pictures', ROOT)
    print(f'\npredictions beside the truth: {pictures}\n'
          f'your own images: {os.path.relpath(python, ROOT)} tools/predict.py {os.path.relpath(WORK / RUNS[0][1] / "latest.pth", ROOT)} IMAGES --out predictions')
    if not args.cfg_options and (fine_tuned < AT_LEAST or fine_tuned < scratch + ABOVE_SCRATCH):
        sys.exit(f'segm_mAP_50 should be at least {AT_LEAST} and {ABOVE_SCRATCH} above the run from scratch: please report this')


if __name__ == '__main__':
    main()
