"""What a training step on a CPU gains from keeping freed memory (mmdet_ft/processes.py), and what that holds.

    python tools/benchmarks/allocator.py
    python tools/benchmarks/allocator.py --models slim --sizes 256x256 --threads 1

Each row is a process of its own: the same steps with glibc's settings and with ours, in turns. `ratio` is the time of a
step with ours to that without, below 1 is faster; `system` are seconds of the operating system, of all steps; `peak` is
the resident memory at its highest. Linux only.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

CONFIGS = {
    'slim': 'configs/sample/mask_rcnn_slim_ft.py',
    'r50': 'configs/torchvision/mask_rcnn_r50_fpn_coco.py',
    'classifier': 'configs/imagenet/resnet50.py'
}


def detector_step(config: str, batch: int, height: int, width: int) -> Callable[[], Any]:
    """Build the runner's step of a detector with random weights, on one batch of noise with ellipses."""
    from tools.benchmarks.peers import work
    args = argparse.Namespace(batch=batch, size=(height, width), objects=7, positives=32, seed=0)
    given = work.make_work(args)
    from mmdet_ft.config import Config
    from mmdet_ft.registry import MODELS
    from tools.benchmarks.peers import mmdet_ft as ours
    cfg = Config.fromfile(os.path.join(ROOT, config)).model
    model = MODELS.build(_with_classes(cfg, 80)).train()
    return runner_step(model, ours.batch_of(given))


def classifier_step(config: str, batch: int, height: int, width: int) -> Callable[[], Any]:
    import torch

    from mmdet_ft.config import Config
    from mmdet_ft.datasets.loading.collate import collate
    from mmdet_ft.registry import MODELS
    model = MODELS.build(Config.fromfile(os.path.join(ROOT, config)).model).train()
    meta = dict(img_shape=(height, width, 3), ori_shape=(height, width, 3))
    samples = [
        dict(img=torch.randn(3, height, width), gt_label=torch.tensor(index), img_metas=meta)
        for index in range(batch)
    ]
    return runner_step(model, collate(samples))


def runner_step(model: Any, batch: Any) -> Callable[[], Any]:
    import torch

    from mmdet_ft.engine.optimizers.optimizer import build_optimizer, zero_missing_momentum
    from mmdet_ft.engine.runner import EpochBasedRunner
    from mmdet_ft.engine.speed.precision import build_precision
    optimizer = build_optimizer(model, dict(type='SGD', lr=0., momentum=.9))
    zero_missing_momentum(optimizer)
    runner = EpochBasedRunner(
        model,
        optimizer,
        tempfile.mkdtemp(),
        precision=build_precision(None, torch.device('cpu')),
        max_epochs=1,
        seed=0)
    runner.max_iters = 10**6

    def step() -> None:
        runner.train_step(batch)
        runner.iter += 1

    return step


def _with_classes(model: Dict[str, Any], count: int) -> Dict[str, Any]:
    for head in ('bbox_head', 'mask_head'):
        model['roi_head'][head]['num_classes'] = count
    return model


def measure(name: str, size: str, batch: int, steps: int, threads: int, keeps: bool) -> None:
    """Print one row as json; run in a process of its own."""
    if keeps:
        from mmdet_ft.processes import keep_freed_memory_of_steps
        keep_freed_memory_of_steps()
    import torch
    torch.set_num_threads(threads)
    height, width = map(int, size.split('x'))
    make = classifier_step if name == 'classifier' else detector_step
    step = make(CONFIGS[name], batch, height, width)
    step()
    import resource  # not on Windows
    before, times = resource.getrusage(resource.RUSAGE_SELF), []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            dict(
                seconds=times,
                system=after.ru_stime - before.ru_stime,
                user=after.ru_utime - before.ru_utime,
                peak=after.ru_maxrss / 1e6)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument(
        '--sizes', nargs='+', default=['256x256', '512x640', '800x1088'], metavar='HxW')
    parser.add_argument('--threads', nargs='+', type=int, default=[2])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--steps', type=int, default=6, help='that are timed, of each process')
    parser.add_argument('--rounds', type=int, default=2, help='processes of each kind, in turns')
    parser.add_argument('--one', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return measure(**json.loads(args.one))
    print(
        '| model | images | threads | s a step, glibc | kept | ratio | system s | kept | peak GB | kept |'
    )
    print('|---|---|---|---|---|---|---|---|---|---|')
    for name in args.models:
        for size in args.sizes:
            for threads in args.threads:
                print(row(name, size, threads, args), flush=True)


def row(name: str, size: str, threads: int, args: argparse.Namespace) -> str:
    found: Dict[bool, List[Dict[str, Any]]] = {False: [], True: []}
    for turn in range(args.rounds):
        for keeps in (False, True) if turn % 2 == 0 else (True, False):
            one = dict(
                name=name,
                size=size,
                batch=args.batch,
                steps=args.steps,
                threads=threads,
                keeps=keeps)
            done = subprocess.run([sys.executable, __file__, '--one',
                                   json.dumps(one)],
                                  stdout=subprocess.PIPE,
                                  check=True,
                                  text=True,
                                  env={
                                      **os.environ, 'OMP_NUM_THREADS': str(threads)
                                  })
            found[keeps].append(json.loads(done.stdout.splitlines()[-1]))
    seconds = [
        statistics.median(time for one in found[keeps] for time in one['seconds'])
        for keeps in found
    ]
    figures = {
        key: [statistics.mean(one[key] for one in found[keeps]) for keeps in found]
        for key in ('system', 'peak')
    }
    return (
        f'| {name} | {args.batch} x {size} | {threads} | {seconds[0]:.3f} | {seconds[1]:.3f} | '
        f'{seconds[1] / seconds[0]:.2f} | {figures["system"][0]:.1f} | {figures["system"][1]:.1f} | '
        f'{figures["peak"][0]:.2f} | {figures["peak"][1]:.2f} |')


if __name__ == '__main__':
    main()
