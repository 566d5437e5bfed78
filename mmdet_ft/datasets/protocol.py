"""A dataset as the rest of the package sees it: shipped, wrapped, or a user's own."""
from typing import Any, Dict, List, Optional, Protocol, Sequence

from mmdet_ft.evaluation.table_output import LoggerLike


class Dataset(Protocol):
    """Samples by index, the names of their classes, and V2's evaluation of results.

    A dataset of files has more, for which callers ask by `hasattr`: `data_infos`, `ann_file`, `flag`, and
    `dataset` or `datasets` in a wrapper.
    """
    CLASSES: Optional[Sequence[str]]

    def __len__(self) -> int:
        ...

    def __getitem__(self, idx: int) -> Any:
        ...

    def get_cat_ids(self, idx: int) -> List[int]:
        ...

    def evaluate(self,
                 results: List[Any],
                 logger: LoggerLike = None,
                 **options: Any) -> Dict[str, Any]:
        ...
