"""Weights of whole modules, saved by torch.save(model) instead of torch.save(model.state_dict())."""
from typing import Any, Dict, Iterator, Optional, Tuple, Union

from torch import Tensor, nn

from mmdet_ft.pickle_values import Record

WHOLE_MODULE = 'whole_module'  # the content's key for the class of the saved module
DEPTH = 2  # levels of nested dicts that are searched for modules


def weights_of_modules(content: object) -> Optional[Dict[str, Any]]:
    """Replace each module in a file's content by its state_dict; return None if there is no module.

    A module is either an object, built because the file is trusted, or a Record of its data.
    """
    if _is_module(content):
        return {'state_dict': dict(_weights(content)), WHOLE_MODULE: _kind(content)}
    if not isinstance(content, dict):
        return None
    kinds = []

    def plain(value: object, depth: int) -> Any:
        if _is_module(value):
            kinds.append(_kind(value))
            return dict(_weights(value))
        if isinstance(value, dict) and depth < DEPTH:
            return {key: plain(item, depth + 1) for key, item in value.items()}
        return value

    plain_content = plain(content, 0)
    return {**plain_content, WHOLE_MODULE: kinds[0]} if kinds else None


def _is_module(value: object) -> bool:
    if isinstance(value, Record):
        return isinstance(value.state, dict) and {'_parameters', '_buffers', '_modules'
                                                  } <= value.state.keys()
    return isinstance(value, nn.Module)


def _kind(module: object) -> str:
    if isinstance(module, Record):
        name = module.kind
        if name.startswith(
                'copyreg.') and module.arguments:  # copyreg._reconstructor(cls, object, None)
            name = str(getattr(module.arguments[0], 'path', module.arguments[0]))
        return name
    return f'{type(module).__module__}.{type(module).__qualname__}'


def _weights(module: Union[Record, nn.Module],
             prefix: str = '',
             outer: Tuple[int, ...] = ()) -> Iterator[Tuple[str, Tensor]]:
    """Yield (name, tensor) as in state_dict()."""
    if not isinstance(module, Record):
        yield from module.state_dict(prefix=prefix).items()
        return
    if id(module) in outer or not _is_module(module):
        return
    state = module.state
    passing = state.get('_non_persistent_buffers_set') or ()
    for name, value in {**_dict(state['_parameters']), **_dict(state['_buffers'])}.items():
        if isinstance(value, Tensor) and name not in passing:
            yield f'{prefix}{name}', value
    for name, child in _dict(state['_modules']).items():
        yield from _weights(child, f'{prefix}{name}.', (*outer, id(module)))


def _dict(value: object) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}
