"""Write a checkpoint of any kind (MMDetection 1 to 3, torchvision, Detectron2, ...) under V2's names and in V2's order.

    python tools/model_converters/upgrade_model_version.py old.pth new.pth

Not needed before training or testing, which convert what they read: for tools that expect V2's files.
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # beside tools/

from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.errors import CheckpointError  # noqa: E402
from mmdet_ft.outputs import Inputs  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('in_file', help='checkpoint to read: path, URL or torchvision://NAME')
    parser.add_argument('out_file', help='checkpoint to write')
    parser.add_argument(
        '--num-classes',
        type=int,
        help='classes of the old model, the background too; only checked, the file has it')
    return parser.parse_args()


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft import __version__  # noqa: E402
from mmdet_ft.checkpoints import writing  # noqa: E402
from mmdet_ft.checkpoints.formats.openmmlab import upgrade_meta  # noqa: E402
from mmdet_ft.checkpoints.reading import read  # noqa: E402


@command
def main() -> None:
    args = ARGS or parse_args()
    Inputs([args.in_file]).require_free(args.out_file, 'out_file')
    checkpoint = read(args.in_file)
    rows = {
        len(value)
        for name, value in checkpoint.state_dict.items() if name.endswith('fc_cls.weight')
    }
    if args.num_classes is not None and rows and args.num_classes not in rows:
        raise CheckpointError(
            f'{args.in_file} has {", ".join(map(str, rows))} classes, the background too, not '
            f'--num-classes {args.num_classes}; leave it out, the file has it')
    writing.save(args.out_file, checkpoint.state_dict,
                 upgrade_meta(checkpoint.meta, checkpoint.origin, __version__))
    print(f'{args.in_file}: {checkpoint.origin.kind}')
    for change in checkpoint.origin.changes or ('nothing to change', ):
        print(f'  {change}')
    for advice in checkpoint.origin.advice:
        print(f'  note: {advice}')
    print(f'written to {args.out_file}')


if __name__ == '__main__':
    main()
