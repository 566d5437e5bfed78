"""Loading of prediction layers by class name: rows of classes that file and model share."""
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple

from torch import Tensor

from mmdet_ft.checkpoints.classes import plain_name
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.parts import Rows


class Match(NamedTuple):
    """The class of the file that initializes each class of the model."""
    copied: List[Tuple[int, int]]  # (class of the model, class of the file)
    old: Tuple[str, ...]  # all classes of the file
    new: Tuple[str, ...]  # all classes of the model

    @property
    def new_classes(self) -> List[str]:
        known = {index for index, _ in self.copied}
        return [name for index, name in enumerate(self.new) if index not in known]

    def __str__(self) -> str:
        names = ', '.join(self.new[new] if plain_name(self.new[new]) ==
                          plain_name(self.old[old]) else f'{self.new[new]} (as {self.old[old]})'
                          for new, old in self.copied[:12])
        rest = f' and {len(self.copied) - 12} more' if len(self.copied) > 12 else ''
        fresh = f'; new: {", ".join(self.new_classes)}' if self.new_classes else ''
        return f'{len(self.copied)} of {len(self.new)} classes copied: {names}{rest}{fresh}'


def match_classes(old: Optional[Sequence[str]], new: Optional[Sequence[str]],
                  aliases: Mapping[str, str]) -> Match:
    """Match by name, ignoring case, spaces and punctuation, and by `aliases`: class of the model -> class of the file.

    Raises CheckpointError if either does not name its classes, and for an alias with an unknown class.
    """
    for classes, who in ((old, 'the file'), (new, 'the model')):
        if not isinstance(classes, (list, tuple)):
            raise CheckpointError(
                f"load_from: heads='by_class' needs the names of the classes, and {who} has none; "
                "leave heads='by_class' out to begin with new heads")
    indices = {plain_name(name): index for index, name in enumerate(old)}
    for mine, theirs in aliases.items():
        for name, known, who in ((mine, new, 'the model'), (theirs, old, 'the file')):
            if plain_name(name) not in map(plain_name, known):
                raise CheckpointError(
                    f'load_from.aliases: {name!r} is not a class of {who}, which has {", ".join(known)}. '
                    'Write aliases={class of the model: class of the file}')
    wanted = {plain_name(mine): plain_name(theirs) for mine, theirs in aliases.items()}
    copied = []
    for index, name in enumerate(new):
        source = indices.get(wanted.get(plain_name(name), plain_name(name)))
        if source is not None:
            copied.append((index, source))
    return Match(copied, tuple(old), tuple(new))


def copy_class_rows(rows: Rows, old: Tensor, new: Tensor, match: Match) -> Optional[Tensor]:
    """Return `new` with the rows of the copied classes from `old`; None if the layer has no rows per class.

    rows: the row layout of both.
    old, new: [rows, ...], equal except for the number of classes.
    """
    num_old, num_new = len(match.old), len(match.new)
    if not rows.follow_classes or not old.dim() or old.shape[1:] != new.shape[1:]:
        return None
    pairs = list(match.copied)
    if rows.background and _have_background(rows, len(old), len(new), match):
        pairs += [(num_new + i, num_old + i) for i in range(rows.background)]
        num_old, num_new = num_old + rows.background, num_new + rows.background
    if rows.first:
        pairs = [(i, i)
                 for i in range(rows.first)] + [(new_class + rows.first, old_class + rows.first)
                                                for new_class, old_class in pairs]
        num_old, num_new = num_old + rows.first, num_new + rows.first
    if len(old) % num_old or len(new) % num_new or len(old) // num_old != len(new) // num_new:
        return None  # class-agnostic
    if rows.per == 'class' and rows.each not in (None, len(old) // num_old):
        return None  # class-agnostic, or names that do not belong to these rows
    dimension = 1 if rows.per == 'anchor and class' else 0
    sizes = [(count, -1) if dimension == 0 else (-1, count) for count in (num_old, num_new)]
    result = new.detach().clone()
    if pairs:
        to, source = (list(indices) for indices in zip(*pairs))
        index = (slice(None), ) * dimension
        copied = old.unflatten(0, sizes[0])[index + (source, )].to(result)
        result.unflatten(0, sizes[1])[index + (to, )] = copied
    return result


def _have_background(rows: Rows, num_old: int, num_new: int, match: Match) -> bool:
    """Check whether these are the rows of the classes and the background, of each anchor if there are any."""
    old, new = len(match.old) + rows.background, len(match.new) + rows.background
    same = num_old * new == num_new * old and num_old % old == 0
    return same and (rows.per == 'anchor and class' or num_old == old)
