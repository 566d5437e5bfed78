"""Strip a checkpoint of what only resuming needs, and add its hash to its name."""
import hashlib
import os
from argparse import Namespace
from typing import Optional, Sequence

import torch

from mmdet_ft.checkpoints.classes import listed
from mmdet_ft.checkpoints.formats.layout import weights_in
from mmdet_ft.checkpoints.reading import read_content
from mmdet_ft.checkpoints.sanity import find_faults
from mmdet_ft.checkpoints.writing import plain
from mmdet_ft.errors import CheckpointError
from mmdet_ft.outputs import Inputs, atomic_file

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


def main(args: Namespace) -> None:
    path = publish(args.in_file, args.out_file, args.trust, args.classes)
    print(f'{path}: {os.path.getsize(path) / 1e6:.1f} MB')
