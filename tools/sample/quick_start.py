"""The quick start on any machine: set up, draw a sample, fine-tune, evaluate, compare with no pretraining.

    python3 tools/sample/quick_start.py

needs Python 3.9 or newer and the package index, no GPU and no data. It makes a virtual environment
(--venv, .venv by default) and installs the project there. It draws street scenes in the layout of
Cityscapes and converts them. It loads a checkpoint of eighty other classes, replaces its heads,
fine-tunes, evaluates and draws predictions beside the ground truth. It then trains for the same number
of iterations from scratch, and prints a table of both. This file uses only the standard library.
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
TOOLS = ROOT / 'tools'
DATA = ROOT / 'data' / 'cityscapes_sample'
WORK = ROOT / 'work_dirs' / 'quick_start'
METRICS = ('bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50')
AT_LEAST, ABOVE_SCRATCH = .5, .1  # of segm_mAP_50: less means that something is broken
# Waiting threads release their core soon. With other work on two cores, a step took 0.5 s instead of
# 2.0 s with this; on an idle machine it took no longer.
PATIENT = dict(GOMP_SPINCOUNT='2000')


def say(text):
    print(f'\n== {text}', flush=True)


def run(command, log, show=()):
    """Run a command of the project with its output in `log`; also print lines that contain one of
    `show`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    shown = ' '.join(
        os.path.relpath(part, ROOT) if str(part).startswith(str(ROOT)) else str(part)
        for part in command)
    print(f'$ {shown}', flush=True)
    with open(log, 'w', encoding='utf-8') as file:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env={
                **PATIENT,
                **os.environ
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='replace')
        for line in process.stdout:
            file.write(line)
            if any(part in line for part in show):
                print('  ' + line.strip()[:220], flush=True)
    if process.wait() != 0:
        lines = log.read_text(encoding='utf-8').splitlines()
        print('\n'.join(lines[-30:]), file=sys.stderr)
        sys.exit(
            f'\nthis step failed with exit code {process.returncode}; all of its output is in {log}'
        )


def set_up(folder):
    """Install the project in a virtual environment and return its python; fast if the environment exists."""
    windows = os.name == 'nt'
    # Make it absolute without resolving links: bin/python is a link to the system's.
    python = Path(
        os.path.abspath(folder), *(('Scripts', 'python.exe') if windows else ('bin', 'python')))
    if not python.exists():
        try:
            venv.create(folder, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit(f'{sys.executable} cannot make virtual environments with pip; '
                     'on Debian and Ubuntu: apt install python3-venv')
    install = [python, '-m', 'pip', 'install', '--disable-pip-version-check']
    # Install setuptools explicitly, so that the project is built here and not in a second environment.
    run(install + ['--upgrade', 'setuptools', 'wheel'], WORK / 'setup.log')
    print(
        'The first time, PyTorch is downloaded: with CUDA on Linux about 3 GB, and 5.5 GB on the disk.',
        flush=True)
    command = install + ['--use-pep517', '--no-build-isolation', '-e', '.[tests]']
    run(command, WORK / 'install.log', (' MB)', ' GB)', 'Installing collected packages'))
    return python


def draw_and_convert(python, seed):
    run([python, TOOLS / 'sample/street_scenes.py', DATA, '--seed', seed], WORK / 'draw.log',
        ('images', ))
    convert = [python, TOOLS / 'dataset_converters/cityscapes.py', DATA, '--nproc', 2, '--force']
    run(convert + ['--out-dir', DATA / 'annotations'], WORK / 'convert.log', ('instances', ))


def train_and_test(python, stem, seed, options):
    """Train and evaluate configs/sample/<stem>.py; return the training time in seconds and the metrics."""
    config, folder = ROOT / f'configs/sample/{stem}.py', WORK / stem
    start = time.time()
    train = [python, TOOLS / 'train.py', config, '--work-dir', folder, '--seed', seed, *options]
    run(train, folder / 'train.log', ('loaded ', 're-initialized', '[60/60]'))
    seconds = time.time() - start
    for old in folder.glob('eval_*.json'):
        old.unlink()
    results = folder / 'results.pkl'
    test = [python, TOOLS / 'test.py', config, folder / 'latest.pth', '--work-dir', folder]
    run(test + ['--out', results, '--eval', 'bbox', 'segm'], folder / 'test.log')
    draw = [python, TOOLS / 'sample/draw_results.py', config, results]
    run(draw + ['--out', folder / 'pictures'], folder / 'pictures.log', ('pictures', ))
    metrics = json.loads(max(folder.glob('eval_*.json')).read_text(encoding='utf-8'))['metric']
    return seconds, metrics


def table(rows):
    """Format (name, seconds, metrics) of each run as a table."""
    lines = [f'{"":14}' + ''.join(f'{name:>14}' for name in METRICS) + f'{"training":>12}']
    for name, seconds, metrics in rows:
        figures = ''.join(f'{metrics[key]:14.3f}' for key in METRICS)
        lines.append(f'{name:14}{figures}{seconds:10.0f} s')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description='The main job on a drawn sample, from nothing')
    parser.add_argument(
        '--venv', default=str(ROOT / '.venv'), help='folder of the virtual environment')
    parser.add_argument('--setup-only', action='store_true', help='make the environment and stop')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='KEY=VALUE to put over both configs')
    args = parser.parse_args()
    if sys.version_info < (3, 9):
        sys.exit(f'mmdet_ft needs Python 3.9 or newer; this is {sys.version.split()[0]}')
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    start = time.time()

    say(f'1. An environment in {args.venv} with the project and what it needs')
    python = set_up(args.venv)
    if args.setup_only:
        return
    say('2. Street scenes in the layout of Cityscapes, and their annotation files')
    draw_and_convert(python, args.seed)
    say('3. Fine-tune from eighty other classes to the eight of Cityscapes')
    fine_tuned = train_and_test(python, 'mask_rcnn_slim_ft', args.seed, options)
    say('4. The same number of iterations without pretraining')
    scratch = train_and_test(python, 'mask_rcnn_slim_scratch', args.seed, options)

    say(f'Done in {(time.time() - start) / 60:.1f} minutes')
    print(table([('fine-tuned', *fine_tuned), ('from scratch', *scratch)]))
    folder = os.path.relpath(WORK / 'mask_rcnn_slim_ft', ROOT)
    print(f'\npredictions beside the truth: {folder}/pictures')
    print(f'your own images: {os.path.relpath(python, ROOT)} tools/predict.py {folder}/latest.pth '
          'IMAGES --out predictions')
    reached, without = (metrics['segm_mAP_50'] for _, metrics in (fine_tuned, scratch))
    if not options and (reached < AT_LEAST or reached < without + ABOVE_SCRATCH):
        sys.exit(
            f'segm_mAP_50 should be at least {AT_LEAST}, and {ABOVE_SCRATCH} above the run from scratch: '
            'please report this')


if __name__ == '__main__':
    main()
