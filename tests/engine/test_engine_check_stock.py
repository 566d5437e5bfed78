"""No false alarm: whatever mmdet 2.28.2 and mmcls 0.25.0 ship is right, where we have its types.

The packages come from the package index, as in tests/config/test_stock_configs.py; without one the test skips.
"""
import re
from collections import Counter

import pytest

from mmdet_ft.config import ConfigError, load_config
from mmdet_ft.engine.config_check.check import prepare
from tests.config.test_stock_configs import package  # noqa: F401

# What the check may say: that something is not here.
NOT_HERE = re.compile(
    r"unknown [\w ]+ type '|that is not supported here; |^custom_imports: cannot import|"
    r'^the config has no (model|data|optimizer|runner)$')  # the last: a part of a config
# Wrong in MMDetection too: a hook without a type, a bbox_head of a FasterRCNN, and LoadAnnotations' normed_bbox.
BROKEN = ('rfnext/rfnext_fixed_multi_branch_cascade_mask_rcnn_hrnetv2p_w18_20e_coco.py',
          'objects365/retinanet_r50_fpn_syncbn_1350k_obj365v1.py',
          'openimages/ssd300_32x8_36e_openimages.py')
RIGHT_AT_LEAST = dict(mmdet=415, mmcls=89)


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_stock_configs_of_known_types_are_right(package):  # noqa: F811
    name, configs = package
    right, alarms = Counter(), {}
    for path in sorted(configs.rglob('*.py')):
        if '_base_' in path.parts or str(path.relative_to(configs)) in BROKEN:
            continue
        try:
            config = load_config(path)
        except ConfigError:  # some are broken, see test_stock_configs.py
            continue
        try:
            prepare(config)
            right[path.parent.name] += 1
        except ConfigError as error:
            if not any(NOT_HERE.search(mistake.message) for mistake in error.mistakes):
                alarms[str(path.relative_to(configs))] = str(error)
    assert not alarms
    assert sum(right.values()) >= RIGHT_AT_LEAST[name], right
