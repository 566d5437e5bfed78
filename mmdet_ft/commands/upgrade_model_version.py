"""Write a checkpoint of any kind under MMDetection 2's names."""
from argparse import Namespace

from mmdet_ft import __version__
from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.formats.openmmlab import upgrade_meta
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.errors import CheckpointError
from mmdet_ft.outputs import Inputs


def main(args: Namespace) -> None:
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
