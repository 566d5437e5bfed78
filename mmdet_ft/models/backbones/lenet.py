from typing import Dict, Tuple

from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule
from mmdet_ft.parts import Rows
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class LeNet5(BaseModule):
    """LeNet-5 (Gradient-Based Learning Applied to Document Recognition, fig. 2) for gray 32x32 images.

    Args:
        num_classes: of its own classifier; 0 or less returns the features of the last convolution.
    """

    def __init__(self, num_classes: int = -1):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5), nn.Tanh(), nn.AvgPool2d(kernel_size=2),
            nn.Conv2d(6, 16, kernel_size=5), nn.Tanh(), nn.AvgPool2d(kernel_size=2),
            nn.Conv2d(16, 120, kernel_size=5), nn.Tanh())
        self.prediction_rows: Dict[str, Rows] = {}
        if num_classes > 0:
            self.num_classes = num_classes
            self.classifier = nn.Sequential(
                nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, num_classes))
            self.prediction_rows = {'classifier.2': Rows()}

    def forward(self, x: Tensor) -> Tuple[Tensor]:
        """Return logits or features of x [B, 1, 32, 32]: ([B, K], ) or ([B, 120, 1, 1], )."""
        x = self.features(x)
        return (self.classifier(x.flatten(1)) if self.prediction_rows else x, )
