"""Print a config as the commands see it: bases merged, references replaced, options on top."""
import argparse

from mmdet_ft.config import ConfigError, DictAction, load_config


def parse_args(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of a config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='values to put over those of the config: model.backbone.depth=101 '
        'data.train.pipeline.2.img_scale="[(1333,640),(1333,800)]"')
    return parser.parse_args(arguments)


def main(arguments=None) -> None:
    args = parse_args(arguments)
    try:
        config = load_config(args.config, args.cfg_options)
    except ConfigError as error:
        raise SystemExit(f'error: {error}')
    print(f'Config:\n{config.pretty_text}')


if __name__ == '__main__':
    main()
