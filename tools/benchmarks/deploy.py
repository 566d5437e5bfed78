"""Milliseconds an image of an exported file in ONNX Runtime, beside its model in PyTorch.

    python tools/benchmarks/deploy.py                  # the slim model of the sample, drawn pictures
    python tools/benchmarks/deploy.py --config CONFIG --checkpoint CHECKPOINT --images photos/*.jpg
"""
import argparse
import os
import sys
import tempfile
from typing import Any, List

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)  # the package beside tools/

import numpy as np  # noqa: E402
import torch  # noqa: E402

from mmdet_ft.apis import init_detector  # noqa: E402
from mmdet_ft.deploy.export import proof, writing  # noqa: E402
from mmdet_ft.evaluation.table_output import table_text  # noqa: E402

SAMPLE = os.path.join(ROOT, 'configs', 'sample', 'mask_rcnn_slim_80')


def parse_args(words: Any = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--config', default=f'{SAMPLE}.py')
    parser.add_argument('--checkpoint', default=f'{SAMPLE}.pth')
    parser.add_argument('--images', nargs='+', help='image files; ten of noise by default')
    parser.add_argument(
        '--size', type=int, nargs=2, default=[480, 640], help='of the noise: height width')
    parser.add_argument('--number', type=int, default=10, help='of images of noise')
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1, 4])
    return parser.parse_args(words)


def drawn(number: int, height: int, width: int) -> List[np.ndarray]:
    """Return pictures of noise, in which trained detectors find a few things."""
    draw = np.random.default_rng(0)
    return list(draw.integers(0, 256, (number, height, width, 3), dtype=np.uint8))


def main(words: Any = None) -> str:
    """Measure, print the table and return it."""
    args = parse_args(words)
    model = init_detector(args.config, args.checkpoint, device='cpu')
    images = args.images or drawn(args.number, *args.size)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'model.onnx')
        writing.export(model, path, writing.read_input_format(model, model.cfg.data.test.pipeline))
        for batch_size in args.batch_sizes:
            found = proof.compare(model, path, images, batch_size=batch_size)
            rows.append((str(batch_size), f'{found.model_ms:.1f}', f'{found.file_ms:.1f}',
                         f'{found.file_ms / found.model_ms:.3f}', str(found.total.found)))
    header = ('images at a time', 'PyTorch, ms', 'ONNX Runtime, ms', 'ratio', 'results')
    text = f'{torch.get_num_threads()} threads\n{table_text(header, rows)}'
    print(text)
    return text


if __name__ == '__main__':
    main()
