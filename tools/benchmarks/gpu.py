"""Everything that is to be known on a GPU, in the order of its worth, into one report.

    python tools/benchmarks/gpu.py --out report.md                  # 25 minutes at most
    python tools/benchmarks/gpu.py --out report.md --only plain ratio

Each part runs in a process of its own with a limit of its own: one that fails, hangs or harms the device costs the
others nothing, and the report says why it is missing.
"""
import argparse
import os
import subprocess
import sys
import time
from typing import Dict, List, NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Part(NamedTuple):
    command: str
    limit: int  # seconds


STEP = 'tools/benchmarks/train_step.py --precision bfloat16'
BIG = f'{STEP} --batch 16'
LAST = 'channels_last+compile+graphs+triton'
PARTS: Dict[str, Part] = {
    # correctness and plain throughput
    'tests':
    Part('-m pytest -q -m gpu --durations=10', 400),
    'plain':
    Part(f'{BIG} --peers --variants plain float32 channels_last --gate 50', 180),
    # beside torchvision
    'ratio':
    Part(
        f'{BIG} --peers torchvision torchvision+channels_last+compile '
        '--variants plain channels_last', 240),
    'ratio of two images':
    Part(
        f'{STEP} --peers torchvision torchvision+channels_last+compile '
        '--variants plain channels_last', 180),
    # compilation and graphs
    'compile':
    Part(
        f'{BIG} --peers --variants channels_last channels_last+graphs channels_last+compile '
        'channels_last+compile+graphs --gate 50', 300),
    'graphs of two images':
    Part(
        f'{STEP} --peers --variants channels_last channels_last+graphs channels_last+compile '
        'channels_last+compile+graphs channels_last+reduce_overhead', 240),
    # Triton's kernels
    'triton':
    Part(f'{BIG} --peers --variants channels_last channels_last+triton {LAST} --gate 50', 240),
    # the other peers
    'mmdetection':
    Part(f'{BIG} --peers torchvision mmdetection --variants {LAST}', 240),
    'detectron2':
    Part(f'{BIG} --peers torchvision detectron2 --variants {LAST}', 240),
    # from files
    'files':
    Part(
        'tools/benchmarks/end_to_end.py --batch 16 --test-batch 8 --images 512 --workers 12 '
        '--steps 100 --warmup 20 --bucket 64 --bfloat16 --channels-last', 240),
}


def run(name: str, part: Part, out: str, python: str) -> float:
    """Run a part, append its output to the report, and return its seconds."""
    begin = time.perf_counter()
    why = ''
    command: List[str] = [python, *part.command.split()]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=part.limit)
        text = done.stdout
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or '-').splitlines()[-1]
            why = f'failed with status {done.returncode}: {last}'
    except subprocess.TimeoutExpired as error:
        text = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ''
        why = f'not finished after {part.limit} s'
    seconds = time.perf_counter() - begin
    with open(out, 'a', encoding='utf-8') as file:
        file.write(f'\n## {name}\n\n`python {part.command}` ({seconds:.0f} s)\n\n{text.strip()}\n')
        if why:
            file.write(f'\n**{why}**\n')
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', required=True, help='the report, in Markdown; added to')
    parser.add_argument('--only', nargs='+', choices=list(PARTS), help='parts, by name')
    parser.add_argument('--minutes', type=float, default=25., help='no part begins after these')
    args = parser.parse_args()
    left = args.minutes * 60
    for name in args.only or PARTS:
        if left <= 0:
            print(f'{name}: no time left')
            continue
        seconds = run(name, PARTS[name], args.out, sys.executable)
        left -= seconds
        print(f'{name}: {seconds:.0f} s', flush=True)


if __name__ == '__main__':
    main()
