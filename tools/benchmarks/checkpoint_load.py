"""What reading a checkpoint costs beside torch.load: time, and memory at its peak, in fresh processes.

    python tools/benchmarks/checkpoint_load.py
    python tools/benchmarks/checkpoint_load.py my.pth --config configs/my.py

Without a file it writes one of Mask R-CNN R50-FPN for 80 classes (178 MB) with random weights. Three
stages: `read`, of which ours only maps the file; `use`, when every number has been looked at; `model`,
when the weights are in a model. The quickest of some runs counts, taken in turns.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
sys.path.insert(0, ROOT)

CONFIG = os.path.join(ROOT, 'configs', '_base_', 'models', 'mask_rcnn_r50_fpn.py')
STAGES = ('read', 'use', 'model')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('checkpoint', nargs='?', help='one of Mask R-CNN is made if left out')
    parser.add_argument('--config', default=CONFIG, help='the model of the checkpoint')
    parser.add_argument(
        '--legacy', action='store_true', help="make the file in torch's format from before 1.6")
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--measure', nargs=2, metavar=('READER', 'STAGE'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return measure(args.checkpoint, args.config, *args.measure)
    with tempfile.TemporaryDirectory() as folder:
        path = args.checkpoint or make(
            os.path.join(folder, 'mask_rcnn.pth'), args.config, args.legacy)
        size = os.path.getsize(path) / 1e6
        print(f'{path}: {size:.1f} MB')
        print('stage   torch.load           ours                 time   memory/size')
        for stage in STAGES:
            figures = {'torch': [], 'ours': []}
            for _ in range(args.runs):
                for reader, measured in figures.items():
                    command = [
                        sys.executable, __file__, path, '--config', args.config, '--measure',
                        reader, stage
                    ]
                    seconds, megabytes = subprocess.check_output(command, text=True).split()[-2:]
                    measured.append((float(seconds), float(megabytes)))
            (theirs, their_memory), (own,
                                     own_memory) = [min(measured) for measured in figures.values()]
            print(
                f'{stage:6}  {theirs * 1e3:7.1f} ms {their_memory:6.1f} MB  {own * 1e3:7.1f} ms {own_memory:6.1f} MB'
                f'  {own / theirs:5.2f}  {own_memory / size:5.2f}')


def build(config):
    from mmdet_ft.config import Config
    from mmdet_ft.models import detectors  # noqa: F401  registers them
    from mmdet_ft.registry import MODELS
    settings = Config.fromfile(config).model
    settings.backbone.init_cfg = None
    return MODELS.build(settings)


def make(path, config, legacy):
    import torch
    torch.save(
        dict(meta={}, state_dict=build(config).state_dict()),
        path,
        _use_new_zipfile_serialization=not legacy)
    return path


def measure(path, config, reader, stage):
    """Print the time in seconds and the peak growth of memory in megabytes."""
    import torch

    from mmdet_ft.checkpoints import fitting, reading
    torch.set_num_threads(1)
    model = build(config) if stage == 'model' else None
    reset_peak()
    before, start = memory('VmRSS'), time.perf_counter()
    if reader == 'torch':
        weights = torch.load(path, map_location='cpu', weights_only=True)['state_dict']
        if model is not None:
            model.load_state_dict(weights)
    else:
        checkpoint = reading.read(path)
        weights = checkpoint.state_dict
        if model is not None:
            fitting.fit(model, checkpoint)
    if stage == 'use':
        sum(float(value.sum()) for value in weights.values())
    print(time.perf_counter() - start, (memory('VmHWM') - before) / 1e6)


def reset_peak():
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')


def memory(name):
    """Return a memory value of /proc/self/status, in bytes."""
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


if __name__ == '__main__':
    main()
