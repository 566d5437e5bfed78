"""pycocotools' COCO with V2's method names."""
import contextlib
import io
from typing import Any, Dict, List, Optional, Sequence, Union

from pycocotools import coco


class COCO(coco.COCO):
    """pycocotools' COCO without output, with V2's names for its methods besides its own."""

    def __init__(self, annotation_file: Optional[str] = None):
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(annotation_file)

    def get_ann_ids(self,
                    img_ids: Sequence[int] = (),
                    cat_ids: Sequence[int] = (),
                    area_rng: Sequence[float] = (),
                    iscrowd: Optional[bool] = None) -> List[int]:
        return self.getAnnIds(img_ids, cat_ids, area_rng, iscrowd)

    def get_cat_ids(
        self,
        cat_names: Sequence[str] = (),
        sup_names: Sequence[str] = (),
        cat_ids: Sequence[int] = ()
    ) -> List[int]:
        return self.getCatIds(cat_names, sup_names, cat_ids)

    def get_img_ids(self, img_ids: Sequence[int] = (), cat_ids: Sequence[int] = ()) -> List[int]:
        return self.getImgIds(img_ids, cat_ids)

    def load_anns(self, ids: Union[int, Sequence[int]]) -> List[Dict[str, Any]]:
        return self.loadAnns(ids)

    def load_cats(self, ids: Union[int, Sequence[int]]) -> List[Dict[str, Any]]:
        return self.loadCats(ids)

    def load_imgs(self, ids: Union[int, Sequence[int]]) -> List[Dict[str, Any]]:
        return self.loadImgs(ids)
