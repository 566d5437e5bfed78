"""Training of the checkpoint that the quick start fine-tunes: the slim model on eighty synthetic classes.

    python tools/sample/pretrain.py

Draws the pictures (data/shapes), trains with tools/train.py from a seed on the CPU, and writes the weights in half
precision with the config and the classes. A json file beside it records the seed, the sha256 and the metrics.
"""
import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmdet_ft.outputs import Inputs  # noqa: E402

CONFIG = ROOT / 'configs' / 'sample' / 'mask_rcnn_slim_80.py'


def shrink(source, out, facts):
    """Write the weights of a checkpoint in half precision, and beside it a json file of facts about it."""
    import torch
    for path in (out, Path(out).with_suffix('.json')):
        Inputs([source, CONFIG]).require_free(path, '--out')
    checkpoint = torch.load(source, map_location='cpu', weights_only=True)
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in checkpoint['state_dict'].items()
    }
    meta = {
        key: checkpoint['meta'][key]
        for key in ('CLASSES', 'config', 'epoch', 'iter') if key in checkpoint['meta']
    }
    torch.save(dict(meta=dict(meta, seed=facts['seed']), state_dict=weights), out)
    content = Path(out).read_bytes()
    assert len(content) <= 5 * 2**20, f'{out} is {len(content)} bytes: too large to ship'
    facts = dict(
        file=Path(out).name,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        **facts)
    Path(out).with_suffix('.json').write_text(json.dumps(facts, indent=2) + '\n')
    return facts


def last_metrics(work_dir):
    """Return the metrics of the last validation in the newest log."""
    log = max(Path(work_dir).glob('*.log.json'), key=lambda path: path.stat().st_mtime)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    row = [row for row in rows if row.get('mode') == 'val'][-1]
    return {
        key: row[key]
        for key in ('bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50') if key in row
    }


def main():
    parser = argparse.ArgumentParser(
        description='Train the checkpoint that the quick start begins with')
    parser.add_argument('--work-dir', default='work_dirs/mask_rcnn_slim_80')
    parser.add_argument('--out', default=str(CONFIG.with_suffix('.pth')))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--images', type=int, default=1600, help='number of training images')
    args = parser.parse_args()

    drawing = [sys.executable, str(ROOT / 'tools/sample/shape_scenes.py'), 'data/shapes']
    subprocess.run(drawing + ['--train', str(args.images), '--seed', str(args.seed)], check=True)
    start = time.time()
    training = [
        sys.executable,
        str(ROOT / 'tools/train.py'),
        str(CONFIG), '--work-dir', args.work_dir
    ]
    subprocess.run(training + ['--seed', str(args.seed)], check=True)
    facts = dict(
        seed=args.seed,
        images=args.images,
        minutes=round((time.time() - start) / 60, 1),
        trained_by='python tools/sample/pretrain.py',
        validation=last_metrics(args.work_dir))
    print(json.dumps(shrink(Path(args.work_dir, 'latest.pth'), args.out, facts), indent=2))


if __name__ == '__main__':
    main()
