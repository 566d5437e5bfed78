"""Random mutations of annotation files, and what must become of each.

A file that somebody has changed is read, or refused by one DataError that names the place; check_data and training
agree on it. Nothing ends in a traceback, takes long or takes much memory.
"""
import contextlib
import copy
import faulthandler
import resource
import signal
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Type

import numpy as np

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.checks.problem import Problem
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.engine.run_check.data import check_data
from mmdet_ft.registry import DATASETS

ODD_VALUES = [
    None, True, False, 0, 1, -1, 2, 7, 0.5, -0.5, 1.5, 192.5, 1e-300, 1e6, 1e9, 3.5e8, 1e12, 1e300,
    -1e300, 2**31, 2**63, 2**64, -2**63, 2**127, 10**400,
    float('nan'), float('inf'), -float('inf'), '', ' ', '0', '1', '1.5', '-1', 'nan', 'inf',
    '1e400', 'true', 'null', 'n/a', 'x,y,w,h', 'a\0b', '\ud800', '\ufeff1', '\u0663', '000001',
    '9' * 5000, 'x' * 300, [], {}, [[]], [None], [[], []], [0], [0, 0, 0, 0], ['1', '2', '3', '4'],
    [[1, 2], [3, 4], [5, 6]], [1, 2, 3, 4, 5, 6], {'a': 1}, {'size': [4, 4], 'counts': 'hello'},
    {'size': [1, 1], 'counts': [1]}, {'counts': []}, [{}], 'images', '../..', '/'
]  # yapf: disable


def mutate(value: Any, rng: np.random.Generator) -> Tuple[Any, str]:
    """Change one place of a json-like value; returns a copy that is changed, and what was done in words."""
    changed = copy.deepcopy(value)
    indices = _places(changed, rng)
    container, key, name = indices[int(rng.integers(len(indices)))]
    old = container[key]
    operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
    text = operation(container, key, old, rng)
    return changed, f'{name}: {text}'


def _places(root: Any, rng: np.random.Generator) -> List[Tuple[Any, Any, str]]:
    """(container, key, its name) of one random place on each level from the root down to a leaf."""
    indices, value, name = [], root, ''
    while isinstance(value, (dict, list)) and value:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[int(rng.integers(len(keys)))]
        name += f'[{key!r}]'
        indices.append((value, key, name))
        value = value[key]
    # deeper places are many and differ, the ones at the top are few
    return indices[:1] + indices[1:] * 4


def _replace(container: Any, key: Any, old: Any, rng: np.random.Generator) -> str:
    container[key] = copy.deepcopy(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])
    return f'{old!r:.60} becomes {container[key]!r:.60}'


def _remove(container: Any, key: Any, old: Any, rng: np.random.Generator) -> str:
    del container[key]
    return 'is taken out'


def _write_otherwise(container: Any, key: Any, old: Any, rng: np.random.Generator) -> str:
    ways = [lambda item: str(item), lambda item: [item], lambda item: dict(value=item), repr]
    if isinstance(old, (int, float)) and not isinstance(old, bool):
        ways += [float, lambda item: -item, lambda item: item + 1, lambda item: item - 1, lambda item: item * 1e6,
                 lambda item: item + .5, lambda item: f' {item} ']  # yapf: disable
    if isinstance(old, str):
        ways += [
            str.upper, lambda item: item + ' ', lambda item: item[:-1], lambda item: f'\ufeff{item}'
        ]
    if isinstance(old, (list, dict)):
        ways += [lambda item: type(item)(), lambda item: [item, item]]
    if isinstance(old, list):
        ways += [lambda item: item[:-1], lambda item: item + item, lambda item: item[::-1],
                 lambda item: dict(enumerate(map(str, item)))]  # yapf: disable
    container[key] = ways[int(rng.integers(len(ways)))](old)
    return f'{old!r:.60} is written {container[key]!r:.60}'


def _copy_from_a_sister(container: Any, key: Any, old: Any, rng: np.random.Generator) -> str:
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    other = keys[int(rng.integers(len(keys)))]
    container[key] = copy.deepcopy(container[other])
    return f'is what stands at {other!r}'


OPERATIONS = [
    _replace, _replace, _replace, _write_otherwise, _write_otherwise, _remove, _copy_from_a_sister
]


class TooLong(Exception):
    """Raised when reading takes more time than a test gives it."""


@contextlib.contextmanager
def limited(seconds: float = 5, gigabytes: float = 3) -> Iterator[None]:
    """Raise TooLong after `seconds`, and MemoryError when the process grows by `gigabytes`.

    Code in C that never returns cannot be stopped: half a minute later the process ends, with the stack of it.
    """

    def stop(*_: Any) -> None:
        raise TooLong(f'not read within {seconds} s')

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open('/proc/self/statm') as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGALRM, stop)
    faulthandler.dump_traceback_later(seconds + 30, exit=True)
    resource.setrlimit(resource.RLIMIT_AS, (used + int(gigabytes * 2**30), hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


class Verdicts(NamedTuple):
    """What training and check_data say about one file."""
    error: Optional[DataError]  # at which training ends
    problems: List[Problem]  # of check_data


def read_by_both(settings: dict,
                 split: str = 'train',
                 more_errors: Sequence[Type[Exception]] = ()) -> Verdicts:
    """Build the data set as training does, and check it as tools/misc/check_data.py does.

    settings: an entry of the config's `data`. more_errors: kinds of exceptions that a command also tells in one
    message, such as FileNotFoundError. Whatever else is raised goes on to the test.
    """
    error = None
    with limited():
        try:
            DATASETS.build(copy.deepcopy(dict({'pipeline': []}, **settings)))
        except (DataError, *more_errors) as found:
            error = found
        config = Config(dict(data={split: copy.deepcopy(settings)}))
        return Verdicts(error, check_data(config, (split, ), images=False).problems)


def assert_agreement(verdicts: Verdicts, names: Sequence[str] = ()) -> None:
    """Check that both read the file, or both refuse it for the same reason, naming one of `names`."""
    stopping = [problem for problem in verdicts.problems if problem.stops]
    if verdicts.error is None:
        assert not stopping, f'training reads it, check_data says {stopping[0]}'
        return
    message = str(verdicts.error)
    assert stopping, f'check_data says nothing; training says {message}'
    first = stopping[0]
    # check_data may add what the image file says, which training has not read.
    listing = [
        first.text, *(example.text.split(' (the file has ')[0] for example in first.examples[:1])
    ]
    assert any(text in message
               for text in listing), f'training says {message}; check_data says {first}'
    assert not names or any(name in message for name in names), f'no place in {message!r}'


def assert_all_agree(
    content: Any,
    write: Callable[[Any], dict],
    number: int,
    seed: int,
    names: Sequence[str] = (),
    more_errors: Sequence[Type[Exception]] = ()) -> List[str]:
    """Try `number` mutations of `content`; `write` writes one and returns the settings of the data set.

    Returns the messages of those that were refused. An error tells the mutation and how to repeat it.
    """
    messages = []
    for index in range(number):
        rng = np.random.default_rng((seed, index))
        changed, what = mutate(content, rng)
        try:
            verdicts = read_by_both(write(changed), more_errors=more_errors)
            assert_agreement(verdicts, names)
        except Exception as error:
            raise AssertionError(
                f'mutation {index} of seed {seed}, {what}: {type(error).__name__}: {error}'
            ) from error
        if verdicts.error is not None:
            messages.append(str(verdicts.error))
    return messages
