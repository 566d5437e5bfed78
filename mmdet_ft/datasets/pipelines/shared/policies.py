"""Random policies, sampled for each image: AutoAugment and RandAugment."""
import inspect
import random
from typing import Any, Dict, List, Sequence, Union

from mmdet_ft.datasets.pipelines.classification.augment import Augment
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.registry import PIPELINES


def with_defaults(policy: Dict[str, Any], hparams: Dict[str, Any]) -> Dict[str, Any]:
    """Return a change with those `hparams` that its class accepts and that it does not set.

    This is limited to the changes of augment.py: a Pad or RandomCrop among them keeps its own
    pad_val.
    """
    varied = [policy['magnitude_key']] if 'magnitude_key' in policy else []
    cls = PIPELINES.resolve(policy['type'], [*policy, *varied])
    if not (inspect.isclass(cls) and issubclass(cls, Augment)):
        return dict(policy)
    known = inspect.signature(cls).parameters
    return {**{key: value for key, value in hparams.items() if key in known}, **policy}


@PIPELINES.register_module()
class AutoAugment:
    """One of several pipelines, sampled for each image (arXiv:1805.09501; for detectors arXiv:1906.11172).

    A detector's changes have a `level` and move boxes and masks with the image (by_level.py); a
    classifier's do not.

    Args:
        policies: the pipelines, lists of dicts.
        hparams: arguments for those changes that accept them and do not set them.
    """
    passes_on = ('hparams', )  # arguments of any change

    def __init__(self,
                 policies: List[List[Dict[str, Any]]],
                 hparams: Dict[str, Any] = dict(pad_val=128)):
        if not policies or not all(
                isinstance(policy, (list, tuple)) and policy for policy in policies):
            raise ValueError('AutoAugment: policies is a list of pipelines, none of them empty')
        self.hparams = hparams
        self.policies = [[with_defaults(change, hparams) for change in policy]
                         for policy in policies]
        self.sub_policy = [Compose(policy) for policy in self.policies]

    def __call__(self, results: Dict[str, Any]) -> Any:
        return random.choice(self.sub_policy)(results)

    def __repr__(self) -> str:
        return f'AutoAugment(policies={self.policies})'


@PIPELINES.register_module()
class RandAugment:
    """`num_policies` of many changes, sampled for each image, all of one strength (arXiv:1909.13719).

    Args:
        policies: changes, dicts. For a varying strength, `magnitude_key` names the argument and
            `magnitude_range` holds its values at level 0 and at `total_level`.
        num_policies: how many; one may occur twice.
        magnitude_level: 0 .. total_level.
        magnitude_std: how the level is sampled: above 0 from a normal distribution of this
            deviation, with 'inf' uniformly from 0 to magnitude_level.
        total_level: the highest level.
        hparams: arguments for those changes that accept them and do not set them.
    """
    instead = ("RandAugment is a classifier's: a detector writes dict(type='AutoAugment', "
               'policies=[[dict(...), ...], ...])')

    passes_on = ('hparams', )  # arguments of any change

    def __init__(self,
                 policies: List[Dict[str, Any]],
                 num_policies: int,
                 magnitude_level: float,
                 magnitude_std: Union[float, str] = 0.,
                 total_level: float = 30,
                 hparams: Dict[str, Any] = dict(pad_val=128)):
        if not policies or not all(
                isinstance(policy, dict) and 'type' in policy for policy in policies):
            raise ValueError('RandAugment: policies is a list of dicts with type=...')
        if isinstance(magnitude_std, str) and magnitude_std != 'inf':
            raise ValueError(
                f"RandAugment: magnitude_std is a number or 'inf', not {magnitude_std!r}")
        if num_policies < 1 or magnitude_level < 0 or total_level <= 0:
            raise ValueError(
                f'RandAugment: num_policies={num_policies} is 1 at least, magnitude_level={magnitude_level} not '
                f'negative, total_level={total_level} positive')
        for policy in policies:
            ends = policy.get('magnitude_range')
            if 'magnitude_key' in policy and not (isinstance(ends,
                                                             (list, tuple)) and len(ends) == 2):
                raise ValueError(
                    f'RandAugment: {policy["type"]} has a magnitude_key and needs a magnitude_range of two '
                    f'numbers, found {ends!r}')
        self.num_policies = num_policies
        self.magnitude_level = magnitude_level
        self.magnitude_std = magnitude_std
        self.total_level = total_level
        self.hparams = hparams
        self.policies = [with_defaults(policy, hparams) for policy in policies]

    def _level(self) -> float:
        if self.magnitude_std == 'inf':
            return random.uniform(0, self.magnitude_level)
        if self.magnitude_std > 0:
            level = random.gauss(self.magnitude_level, self.magnitude_std)
            return min(self.total_level, max(0, level))
        return self.magnitude_level

    def _built(self, policy: Dict[str, Any]) -> Any:
        policy = dict(policy)
        key = policy.pop('magnitude_key', None)
        if key is not None:
            low, high = policy.pop('magnitude_range')
            policy[key] = self._level() / self.total_level * (high - low) + low
        return PIPELINES.build(policy)

    def __call__(self, results: Dict[str, Any]) -> Any:
        chosen: Sequence[Dict[str, Any]] = random.choices(self.policies, k=self.num_policies)
        return Compose([self._built(policy) for policy in chosen])(results)

    def __repr__(self) -> str:
        return (f'RandAugment(policies={self.policies}, num_policies={self.num_policies}, '
                f'magnitude_level={self.magnitude_level}, total_level={self.total_level})')
