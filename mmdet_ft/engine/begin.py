"""How a command begins: what can be refused without torch is refused before torch is imported, which takes seconds."""
import argparse
import os
from typing import Callable

from mmdet_ft.checkpoints import sources
from mmdet_ft.config.load import load_config
from mmdet_ft.engine.errors import command
from mmdet_ft.errors import UserError

# Arguments of commands that name a file to read.
CHECKPOINTS = ('checkpoint', 'in_file')
FILES = ('pkl_results', 'prediction_path', 'failure', 'results', 'source', 'root', 'img_path')


def begin(parse_args: Callable[[], argparse.Namespace]) -> argparse.Namespace:
    """Return a command's arguments, after the config that they name has been read and its files have been looked for.

    Ends the process with a message where one of them cannot be had, as `command` does.
    """
    found = []

    @command
    def read() -> None:
        args = parse_args()
        if getattr(args, 'config', None):
            load_config(args.config, getattr(args, 'cfg_options', None))
        for name in CHECKPOINTS:
            path = getattr(args, name, None)
            if path and '://' not in path:  # a URL is fetched when the model has been built
                sources.resolve(path)
        for name in FILES:
            path = getattr(args, name, None)
            if path and not os.path.exists(path):
                raise UserError(f'there is no file {path!r} (looked from {os.getcwd()})')
        found.append(args)

    read()
    return found[0]
