"""How long a training step of Mask R-CNN R50-FPN takes, beside its peers in the same run.

    python tools/benchmarks/train_step.py                       # 2 images of 800x1088, float32
    python tools/benchmarks/train_step.py --clock cpu           # the same on a busy machine
    python tools/benchmarks/train_step.py --batch 16 --precision bfloat16 --gate 50 \\
        --peers torchvision torchvision+channels_last+compile mmdetection detectron2 \\
        --variants plain channels_last channels_last+compile channels_last+triton

A step is forward, backward and optimizer, from a batch on the device. All have the same images, objects, and the same
boxes added to their proposals, so that the mask heads have the same work (random weights would leave them idle), and
the same weights, detectron2 excepted. Peers and variants of ours take turns; what is printed are medians, and ratios to
the first row. While they are timed the learning rate is 0, so that their work stays the same.

`--gate 50` trains each variant of ours for 50 steps from the same weights and seed, and prints by how much of its loss
a variant differs from the first one, at most and (on average). Rounding changes the order of proposals that are nearly
equal, and then the samples: what the row `another seed` shows is no difference.
"""
import argparse
import copy
import importlib
import os
import statistics
import sys
import tempfile
import time
import warnings
from typing import Dict, List, NamedTuple, Optional, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
# Compilation is measured without caches.
os.environ.setdefault('TORCHINDUCTOR_FORCE_DISABLE_CACHES', '1')

import torch  # noqa: E402
import torchvision  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tools.benchmarks.no_sync import count_syncs  # noqa: E402
from tools.benchmarks.peers import torchvision as theirs  # noqa: E402
from tools.benchmarks.peers import work as given  # noqa: E402

PEERS = ('torchvision', 'mmdetection', 'detectron2')
PEAK = {'bfloat16': 790e12, 'float16': 790e12, 'float32': 50e12}  # FLOPS of an H200, dense


class Row(NamedTuple):
    name: str
    peer: given.Peer
    setting: given.Setting
    first: float  # seconds from the start to the end of the first step
    losses: List[float]  # of the gate
    times: List[float]  # seconds of a step


class Start(NamedTuple):
    name: str
    module: str  # of tools/benchmarks/peers
    setting: given.Setting


def starts(args: argparse.Namespace) -> List[Start]:
    found = []
    for text in args.peers:
        module, _, words = text.partition('+')
        if module not in PEERS:
            raise argparse.ArgumentTypeError(f'{module!r}: peers are {", ".join(PEERS)}')
        found.append(Start(text, module, given.read_setting(words or 'plain', args.precision)))
    for words in args.variants:
        name = 'mmdet_ft' if words == 'plain' else f'mmdet_ft+{words}'
        found.append(Start(name, 'mmdet_ft', given.read_setting(words, args.precision)))
    return found


def start(one: Start, weights: str, work: given.Work, args: argparse.Namespace) -> Row:
    """Build a peer and run its first step, or the steps of the gate; then restore its initial
    weights."""
    begin = time.perf_counter()
    peer = importlib.import_module(f'tools.benchmarks.peers.{one.module}').peer(
        weights, work, one.setting, args)
    before = copy.deepcopy(peer.model.state_dict())
    losses = [peer.step()]
    wait(args)
    first = time.perf_counter() - begin
    if one.module == 'mmdet_ft':
        losses += [peer.step() for _ in range(args.gate - 1)]
    peer.model.load_state_dict(before)
    peer.positives.clear()
    for group in peer.optimizer.param_groups:
        group['lr'] = 0.
    return Row(one.name, peer, one.setting, first, [float(loss) for loss in losses], [])


def start_all(args: argparse.Namespace) -> Tuple[List[Row], Dict[str, str], Optional[str]]:
    """Return (rows, reasons for left-out peers, difference between the losses of two seeds)."""
    rows, left_out, noise = [], {}, None
    work = given.make_work(args)
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, 'weights.pth')
        torch.save(theirs.build(work.images).state_dict(), weights)
        for one in starts(args):
            try:
                rows.append(start(one, weights, work, args))
            except Exception as error:  # many causes: not installed, no compiler, out of memory
                first_line = (str(error).strip().splitlines() or [''])[0]
                left_out[one.name] = f'{type(error).__name__}: {first_line}'
        plain = next((row for row in rows if row.name.startswith('mmdet_ft')), None)
        if args.gate and plain is not None:
            other = argparse.Namespace(**{**vars(args), 'seed': args.seed + 1})
            noise = difference(
                start(Start('', 'mmdet_ft', plain.setting), weights, work, other).losses,
                plain.losses)
    return rows, left_out, noise


def difference(losses: List[float], reference: List[float]) -> str:
    """Format the relative difference of losses: maximum magnitude, and signed mean."""
    parts = [(a - b) / b for a, b in zip(losses, reference)]
    return f'{max(map(abs, parts)):.1e} ({statistics.mean(parts):+.1e})'


# ---------------------------------------------------------------------------------------- measuring


def on_gpu(args: argparse.Namespace) -> bool:
    return args.device.startswith('cuda')


def wait(args: argparse.Namespace) -> None:
    if on_gpu(args):
        torch.cuda.synchronize()


def measure(rows: List[Row], args: argparse.Namespace) -> None:
    """Measure the step times of all rows in turns. On a GPU a turn has several steps, so that the
    host can run ahead as in training."""
    clock = time.process_time if args.clock == 'cpu' else time.perf_counter
    block = args.block or (20 if on_gpu(args) else 1)
    for number in range(args.warmup + args.steps):
        for row in rows:
            wait(args)
            begin = clock()
            for _ in range(block):
                row.peer.step()
            wait(args)
            if number >= args.warmup:
                row.times.append((clock() - begin) / block)


def waits_and_operations(peer: given.Peer, args: argparse.Namespace) -> Tuple[str, str]:
    """Count the syncs and operations of a step. On a GPU, by torch's sync debug mode and as launches
    of kernels + of graphs; elsewhere by NoSync."""
    if not on_gpu(args):
        with count_syncs() as seen:
            peer.step()
        return str(len(seen.syncs)), str(seen.num_ops)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            peer.step()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    waits = sum('called a synchronizing' in str(warning.message) for warning in caught)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        peer.step()
        wait(args)
    names = [event.name for event in profile.events()]
    return str(waits), (f'{sum("LaunchKernel" in name for name in names)} + '
                        f'{names.count("cudaGraphLaunch")}')


def step_memory(peer: given.Peer, args: argparse.Namespace) -> str:
    """Return the peak memory of a step minus the memory held between steps."""
    if not on_gpu(args):
        return '-'
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    peer.step()
    wait(args)
    return f'{(torch.cuda.max_memory_allocated() - before) / 2**30:.1f} GB'


def flop_of_step(height: int, width: int, num_positives: float, num_rois: int = 512) -> float:
    """Return the minimum FLOP (two per multiply-add) of a training step of one image.

    Counts convolutions and matrix products of Mask R-CNN R50-FPN with a frozen stem and first stage.
    Backward is twice forward for trained weights. Heights and widths of levels are rounded up.
    """
    cells = [-(-height // stride) * -(-width // stride) for stride in (2, 4, 8, 16, 32, 64)]
    stem = cells[0] * 147 * 64
    stages, widths = [], (64, 64, 128, 256, 512)
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        inner, before = widths[stage], 64 if stage == 1 else widths[stage] * 2
        here, entry = cells[stage], cells[max(stage - 1, 1)]
        first = entry * before * inner + here * (
            inner * inner * 9 + inner * inner * 4 + before * inner * 4)
        other = here * (inner * inner * 4 * 2 + inner * inner * 9)
        stages.append(first + (blocks - 1) * other)
    levels = cells[1:5]
    neck = sum(cell * width * 4 * 256
               for cell, width in zip(levels, widths[1:])) + sum(cell * 9 * 256 * 256
                                                                 for cell in levels)
    rpn = sum(cells[1:6]) * (9 * 256 * 256 + 256 * 15)
    box = num_rois * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 401)
    mask = num_positives * (196 * 9 * 256 * 256 * 4 + 196 * 4 * 256 * 256 + 784 * 256 * 80)
    frozen = stem + stages[0]
    learning = sum(stages[1:]) + neck + rpn + box + mask
    # Three layers have frozen inputs, which need no gradient.
    into_frozen = cells[1] * 256 * 128 + cells[2] * 256 * 512 + cells[1] * 256 * 256
    return 2. * (frozen + 3 * learning - into_frozen)


def table_of(rows: List[Row], noise: Optional[str], args: argparse.Namespace) -> Table:
    flop = flop_of_step(*args.size, args.positives) * args.batch
    table = Table(box=box.MARKDOWN)
    for column in ('', 'ms a step', 'images/s', 'ratio', 'of the floor', 'mask regions', 'waits',
                   'operations', 'step memory', 's to the first step', 'images in 10 minutes',
                   'losses differ'):
        table.add_column(column, justify='right')
    reference = statistics.median(rows[0].times)
    plain = next((row for row in rows if row.name.startswith('mmdet_ft')), None)
    for row in rows:
        median = statistics.median(row.times)
        waits, operations = waits_and_operations(row.peer, args)
        floor = f'{flop / PEAK[row.setting.precision] / median:.0%}' if on_gpu(args) else '-'
        regions = statistics.mean(map(float, row.peer.positives)) / args.batch
        gated = args.gate and row.name.startswith('mmdet_ft') and row is not plain
        table.add_row(row.name, f'{median * 1e3:.1f}', f'{args.batch / median:.2f}',
                      f'{median / reference:.3f}', floor, f'{regions:.1f}', waits, operations,
                      step_memory(row.peer, args), f'{row.first:.1f}',
                      f'{args.batch * (1 + max(0., 600 - row.first) / median):.0f}',
                      difference(row.losses, plain.losses) if gated else '-')
    if noise is not None:
        table.add_row('another seed', *[''] * 10, noise)
    return table


def print_report(console: Console, table: Table, rows: List[Row], left_out: Dict[str, str],
                 args: argparse.Namespace) -> None:
    flop = flop_of_step(*args.size, args.positives) * args.batch
    chip = torch.cuda.get_device_name() if on_gpu(args) else 'cpu'
    console.print(
        f'{args.batch} x {args.size[0]}x{args.size[1]}, {args.precision}, {chip}, '
        f'{args.clock} clock, torch {torch.__version__}, torchvision {torchvision.__version__}, '
        f'{time.strftime("%Y-%m-%d")}; floor: {flop / 1e12:.2f} TFLOP a step\n')
    console.print(table)
    for row in rows:
        if row.peer.remark:
            console.print(f'{row.name}: {row.peer.remark}')
        if args.gate and row.name.startswith('mmdet_ft'):
            console.print(f'{row.name}: loss {row.losses[0]:.4f}, after {args.gate} steps '
                          f'{row.losses[-1]:.4f}')
    for name, reason in left_out.items():
        console.print(f'left out: {name}: {reason}', highlight=False, markup=False)


def parse(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1088), metavar=('H', 'W'))
    parser.add_argument('--objects', type=int, default=7, help='an image')
    parser.add_argument(
        '--positives', type=int, default=64, help='regions of the mask head, an image')
    parser.add_argument(
        '--peers', nargs='*', default=PEERS, help=f'{", ".join(PEERS)}, with +settings')
    parser.add_argument(
        '--variants',
        nargs='*',
        default=['plain'],
        help=f'of ours; settings are {", ".join(given.SETTINGS)}, joined by +')
    parser.add_argument('--gate', type=int, default=0, help='losses to compare; 0: none')
    parser.add_argument('--warmup', type=int, default=1, help='turns')
    parser.add_argument('--steps', type=int, default=5, help='turns that are timed')
    parser.add_argument('--block', type=int, help='steps a turn; default 20 on a GPU, else 1')
    parser.add_argument(
        '--clock',
        default='wall',
        choices=('wall', 'cpu'),
        help='cpu: seconds of the processor, for a machine with other work, best with one thread')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cuda or cpu')
    parser.add_argument('--precision', default='float32', choices=given.PRECISIONS)
    parser.add_argument('--lr', type=float, default=1e-4, help='of the gate')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='a file that the report is added to')
    args = parser.parse_args(arguments)
    try:
        starts(args)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    if args.clock == 'cpu' and on_gpu(args):
        parser.error('--clock cpu is of no use on a GPU')
    return args


def main() -> None:
    args = parse()
    torch.backends.cudnn.benchmark = True  # all shapes stay the same
    torch._dynamo.config.cache_size_limit = 64  # all variants are compiled from the same code
    rows, left_out, noise = start_all(args)
    if rows:
        measure(rows, args)
    table = table_of(rows, noise, args) if rows else Table()
    print_report(Console(width=200), table, rows, left_out, args)
    if args.out:
        with open(args.out, 'a', encoding='utf-8') as file:
            print_report(Console(file=file, width=200), table, rows, left_out, args)
    if not rows:
        sys.exit('nothing could be measured')


if __name__ == '__main__':
    main()
