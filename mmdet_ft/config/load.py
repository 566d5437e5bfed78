"""Loading of a config, as every command does it."""
import os
import re
from typing import Any, Dict, Optional, Tuple

from mmdet_ft.config.config import Config, PathLike
from mmdet_ft.config.config_dict import item_at, map_leaves
from mmdet_ft.config.errors import ConfigKeyError, ConfigTypeError
from mmdet_ft.config.layers import DATA_ROOT_VARIABLE, Layer


def load_config(filename: PathLike, cfg_options: Optional[Dict[str, Any]] = None) -> Config:
    """Read a config as V2's commands do: bases, references, MMDET_DATASETS, `--cfg-options` last."""
    config = replace_cfg_vals(Config.fromfile(filename))
    update_data_root(config)
    if cfg_options:
        config.merge_from_dict(cfg_options)
    return config


_REFERENCE = re.compile(r'\$\{([a-zA-Z\d_.]+)\}')


def replace_cfg_vals(config: Config) -> Config:
    """Return a config with every '${key.of.another}' reference resolved.

    A string that is only a reference becomes the value itself; inside a string the value's text is
    inserted. Then `model_wrapper` replaces `model`: V2's way to wrap a detector named by '${model}'.

    Raises ConfigKeyError for a missing key and for circular references, ConfigTypeError for a container
    within a string.
    """

    def resolve(key: str, string: str, seen: Tuple[str, ...]) -> Any:
        if key in seen:
            raise ConfigKeyError(f'references lead back to themselves: {" -> ".join((*seen, key))}')
        try:
            found = item_at(config._cfg_dict, key)
        except KeyError as error:
            raise ConfigKeyError(
                f'{string!r} names no value: there is no {error.args[0]}') from None
        return map_leaves(found, lambda leaf: replace(leaf, (*seen, key)))

    def replace(leaf: object, seen: Tuple[str, ...] = ()) -> Any:
        if not isinstance(leaf, str) or '${' not in leaf:
            return leaf
        whole = _REFERENCE.fullmatch(leaf)
        if whole:
            return resolve(whole[1], leaf, seen)

        def as_text(match):
            found = resolve(match[1], leaf, seen)
            if isinstance(found, (dict, list, tuple)):
                raise ConfigTypeError(f'{leaf!r} has a {type(found).__name__} inside a string; '
                                      f'{match[0]!r} must be on a line of its own')
            return str(found)

        return _REFERENCE.sub(as_text, leaf)

    values = map_leaves(config._cfg_dict, replace)
    wrapped = values.get('model_wrapper') is not None
    if wrapped:
        values['model'] = values.pop('model_wrapper')
    replaced = Config(values, cfg_text=config.text, filename=config.filename)._over(*config.layers)
    if wrapped:
        replaced.record_move('model_wrapper', 'model')
    return replaced


def update_data_root(config: Config) -> None:
    """Replace `data_root` by MMDET_DATASETS if that is set, also in every string of `data`."""
    root, new_root = config.get('data_root'), os.environ.get(DATA_ROOT_VARIABLE)
    if not new_root or not isinstance(root, str) or not root:
        return
    if root.endswith('/') and not new_root.endswith('/'):
        new_root += '/'  # configs write data_root + 'annotations/...'

    def update(leaf: object) -> Any:
        return leaf.replace(root, new_root) if isinstance(leaf, str) else leaf

    if 'data' in config:
        config.data = map_leaves(config.data, update)
    config.data_root = new_root
    config._over(
        Layer(
            dict(data=config.data.to_dict() if 'data' in config else {}, data_root=new_root),
            label=DATA_ROOT_VARIABLE))


def value_at(config: Config, path: str) -> Any:
    """Return the value at a dotted path; raises ConfigKeyError with the nearest name if it is missing."""
    try:
        return item_at(config._cfg_dict, path)
    except KeyError as error:
        raise ConfigKeyError(f'{path}: there is no {error.args[0]}') from None
