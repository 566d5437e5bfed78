"""Make a checkpoint ready to be handed on: without what only a resumed run needs, with its hash in the name.

    python tools/model_converters/publish_model.py work_dirs/my/epoch_12.pth my_model.pth

writes my_model-<first 8 digits of its sha256>.pth, which a download is checked against.
"""
import argparse
import hashlib
import os
import sys
from typing import Optional, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # beside tools/

from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.errors import CheckpointError  # noqa: E402
from mmdet_ft.outputs import Inputs, atomic_file  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('in_file', help='checkpoint to read: path or URL')
    parser.add_argument('out_file', help='checkpoint to write; the hash is added to its name')
    parser.add_argument(
        '--trust',
        action='store_true',
        help='build the objects in in_file, which may run any code that its author chose; the file '
        'that is written holds none')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='other names for the classes, in the order of the checkpoint')
    return parser.parse_args()


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

import torch  # noqa: E402

from mmdet_ft.checkpoints.classes import listed  # noqa: E402
from mmdet_ft.checkpoints.formats.layout import weights_in  # noqa: E402
from mmdet_ft.checkpoints.reading import read_content  # noqa: E402
from mmdet_ft.checkpoints.sanity import find_faults  # noqa: E402
from mmdet_ft.checkpoints.writing import plain  # noqa: E402

# Keys that only resuming needs: ours, mmengine's, torchvision's.
OF_A_RUN = ('optimizer', 'random_state', 'gradients', 'message_hub', 'param_schedulers',
            'optimizer_state_dict', 'lr_scheduler', 'scheduler', 'scaler', 'amp')


def publish(in_file: str,
            out_file: str,
            trust: bool = False,
            classes: Optional[Sequence[str]] = None) -> str:
    """Write a checkpoint without the state that only resuming needs; return the path with the hash.

    classes: names that replace those of the checkpoint. With them the whole file is kept, so that a run can resume.

    Raises CheckpointError, also for NaN or infinite weights, and for a different number of classes.
    """
    name, content = read_content(in_file, trust)
    faults = find_faults(weights_in(content)[0])
    if faults:
        raise CheckpointError(f'{name} is not worth publishing: {"; ".join(faults)}')
    kept = plain({
        key: value
        for key, value in content.items() if key not in OF_A_RUN or classes is not None
    })
    if classes is not None:
        meta = kept.get('meta') if isinstance(kept.get('meta'), dict) else {}
        old = meta.get('CLASSES') or ()
        if old and len(old) != len(classes):
            raise CheckpointError(
                f'{name} has {listed(old)}: --classes needs {len(old)} names, not {len(classes)}')
        kept['meta'] = {**meta, 'CLASSES': tuple(classes)}
    stem = out_file[:-len('.pth')] if out_file.endswith('.pth') else out_file
    unnamed = f'{stem}.unnamed'
    inputs = Inputs([in_file])
    inputs.require_free(unnamed, 'out_file')
    with atomic_file(unnamed) as file:
        torch.save(kept, file)
    with open(unnamed, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    path = f'{stem}-{digest[:8]}.pth'
    if inputs.find_same(path):  # already published with the same content
        os.remove(unnamed)
    else:
        os.replace(unnamed, path)
    return path


@command
def main() -> None:
    args = ARGS or parse_args()
    path = publish(args.in_file, args.out_file, args.trust, args.classes)
    print(f'{path}: {os.path.getsize(path) / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
