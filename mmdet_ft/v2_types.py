"""The type names of MMDetection 2.28.2, MMClassification 0.25.0 and mmcv 1.7.2, by package and part.

This is the only list of V2's types. A type in this list and in no registry is reported as V2's, not as a typo.
A scope, as in `type='mmcls.ResNet'`, is that of a package here.
"""
from typing import Collection, Dict, Iterable, List, Optional

from mmdet_ft import spelling

# Packages and their names in messages.
SCOPES = {'mmdet': 'MMDetection 2.28.2', 'mmcls': 'MMClassification 0.25.0', 'mmcv': 'mmcv 1.7.2'}
# Parts of a model; all are types of the registry of models.
_MODEL_PARTS = ('anchor generator', 'assigner', 'attention', 'backbone', 'box coder', 'box head',
                'box sampler', 'classification head', 'classifier', 'dense head', 'detector',
                'dropout layer', 'IoU calculator', 'linear layer', 'loss', 'mask head',
                'matching cost', 'mixing', 'neck', 'position encoding', 'RoI extractor', 'RoI head',
                'RoI layer', 'segmentation head', 'shared head', 'transformer')
# Registries with one purpose each: a name of one is a mistake in another.
_REGISTRIES = ('model', 'dataset', 'pipeline', 'hook', 'runner', 'sampler', 'optimizer',
               'optimizer constructor')

_NAMES: Dict[str, Dict[str, str]] = {
    'mmdet': {
        'anchor generator':
            'AnchorGenerator LegacyAnchorGenerator LegacySSDAnchorGenerator MlvlPointGenerator PointGenerator '
            'SSDAnchorGenerator YOLOAnchorGenerator',
        'assigner':
            'ATSSAssigner ApproxMaxIoUAssigner AscendMaxIoUAssigner CenterRegionAssigner GridAssigner '
            'HungarianAssigner MaskHungarianAssigner MaxIoUAssigner PointAssigner RegionAssigner SimOTAAssigner '
            'TaskAlignedAssigner UniformAssigner',
        'backbone':
            'CSPDarknet Darknet DetectoRS_ResNeXt DetectoRS_ResNet EfficientNet HRNet HourglassNet MobileNetV2 '
            'PyramidVisionTransformer PyramidVisionTransformerV2 RegNet Res2Net ResNeSt ResNeXt ResNet ResNetV1d '
            'SSDVGG SwinTransformer TridentResNet',
        'box coder':
            'BucketingBBoxCoder DeltaXYWHBBoxCoder DistancePointBBoxCoder LegacyDeltaXYWHBBoxCoder '
            'PseudoBBoxCoder TBLRBBoxCoder YOLOBBoxCoder',
        'box head':
            'BBoxHead ConvFCBBoxHead DIIHead DoubleConvFCBBoxHead SABLHead SCNetBBoxHead Shared2FCBBoxHead '
            'Shared4Conv1FCBBoxHead',
        'box sampler':
            'CombinedSampler InstanceBalancedPosSampler IoUBalancedNegSampler MaskPseudoSampler OHEMSampler '
            'PseudoSampler RandomSampler ScoreHLRSampler',
        'convolution':
            'NormedConv2d',
        'dataset':
            'CityscapesDataset ClassBalancedDataset CocoDataset CocoPanopticDataset ConcatDataset CustomDataset '
            'DeepFashionDataset LVISDataset LVISV05Dataset LVISV1Dataset MultiImageMixDataset Objects365V1Dataset '
            'Objects365V2Dataset OccludedSeparatedCocoDataset OpenImagesChallengeDataset OpenImagesDataset '
            'RepeatDataset VOCDataset WIDERFaceDataset XMLDataset',
        'dense head':
            'ATSSHead AnchorFreeHead AnchorHead AscendAnchorHead AscendRetinaHead AscendSSDHead AutoAssignHead '
            'CascadeRPNHead CenterNetHead CentripetalHead CornerHead DDODHead DETRHead DecoupledSOLOHead '
            'DecoupledSOLOLightHead DeformableDETRHead EmbeddingRPNHead FCOSHead FSAFHead FoveaHead '
            'FreeAnchorRetinaHead GARPNHead GARetinaHead GFLHead GuidedAnchorHead LADHead LDHead Mask2FormerHead '
            'MaskFormerHead NASFCOSHead PAAHead PISARetinaHead PISASSDHead RPNHead RepPointsHead RetinaHead '
            'RetinaSepBNHead SABLRetinaHead SOLOHead SOLOV2Head SSDHead StageCascadeRPNHead TOODHead VFNetHead '
            'YOLACTHead YOLACTProtonet YOLACTSegmHead YOLOFHead YOLOV3Head YOLOXHead',
        'detector':
            'ATSS AutoAssign CascadeRCNN CenterNet CornerNet DDOD DETR DeformableDETR FCOS FOVEA FSAF FastRCNN '
            'FasterRCNN GFL GridRCNN HybridTaskCascade KnowledgeDistillationSingleStageDetector LAD Mask2Former '
            'MaskFormer MaskRCNN MaskScoringRCNN NASFCOS PAA PanopticFPN PointRend QueryInst RPN '
            'RepPointsDetector RetinaNet SCNet SOLO SOLOv2 SingleStageDetector SingleStageInstanceSegmentor '
            'SparseRCNN TOOD TridentFasterRCNN TwoStageDetector TwoStagePanopticSegmentor VFNet YOLACT YOLOF '
            'YOLOV3 YOLOX',
        'hook':
            'CheckInvalidLossHook ExpMomentumEMAHook LinearMomentumEMAHook MMDetWandbHook MemoryProfilerHook '
            'NumClassCheckHook SetEpochInfoHook SyncNormHook SyncRandomSizeHook YOLOXLrUpdaterHook '
            'YOLOXModeSwitchHook',
        'IoU calculator':
            'BboxOverlaps2D',
        'linear layer':
            'Linear NormedLinear',
        'loss':
            'AssociativeEmbeddingLoss BalancedL1Loss BoundedIoULoss CIoULoss CrossEntropyLoss DIoULoss DiceLoss '
            'DistributionFocalLoss FocalLoss GHMC GHMR GIoULoss GaussianFocalLoss IoULoss '
            'KnowledgeDistillationKLDivLoss L1Loss MSELoss QualityFocalLoss SeesawLoss SmoothL1Loss VarifocalLoss',
        'mask head':
            'CoarseMaskHead DynamicMaskHead FCNMaskHead FeatureRelayHead FusedSemanticHead GlobalContextHead '
            'GridHead HTCMaskHead MaskIoUHead MaskPointHead SCNetMaskHead SCNetSemanticHead',
        'matching cost':
            'BBoxL1Cost ClassificationCost CrossEntropyLossCost DiceCost FocalLossCost IoUCost',
        'neck':
            'BFP CTResNetNeck ChannelMapper DilatedEncoder DyHead FPG FPN FPN_CARAFE HRFPN NASFCOS_FPN NASFPN '
            'PAFPN RFP SSDNeck YOLOV3Neck YOLOXPAFPN',
        'optimizer constructor':
            'LearningRateDecayOptimizerConstructor',
        'pipeline':
            'Albu AutoAugment BrightnessTransform Collect ColorTransform Compose ContrastTransform CopyPaste '
            'Corrupt CutOut DefaultFormatBundle EqualizeTransform Expand FilterAnnotations ImageToTensor '
            'InstaBoost LoadAnnotations LoadImageFromFile LoadImageFromWebcam LoadMultiChannelImageFromFiles '
            'LoadPanopticAnnotations LoadProposals MinIoURandomCrop MixUp Mosaic MultiScaleFlipAug Normalize Pad '
            'PhotoMetricDistortion RandomAffine RandomCenterCropPad RandomCrop RandomFlip RandomShift Resize '
            'Rotate SegRescale Shear ToDataContainer ToTensor Translate Transpose WrapFieldsToLists '
            'YOLOXHSVRandomAug',
        'plugin':
            'DropBlock MSDeformAttnPixelDecoder PixelDecoder TransformerEncoderPixelDecoder',
        'position encoding':
            'LearnedPositionalEncoding SinePositionalEncoding',
        'RoI extractor':
            'GenericRoIExtractor SingleRoIExtractor',
        'RoI head':
            'CascadeRoIHead DoubleHeadRoIHead DynamicRoIHead GridRoIHead HybridTaskCascadeRoIHead '
            'MaskScoringRoIHead PISARoIHead PointRendRoIHead SCNetRoIHead SparseRoIHead StandardRoIHead '
            'TridentRoIHead',
        'segmentation head':
            'HeuristicFusionHead MaskFormerFusionHead PanopticFPNHead',
        'shared head':
            'ResLayer',
        'transformer':
            'DeformableDetrTransformer DeformableDetrTransformerDecoder DetrTransformerDecoder '
            'DetrTransformerDecoderLayer DetrTransformerEncoder DynamicConv Transformer',
    },
    'mmcls': {
        'attention':
            'ShiftWindowMSA',
        'backbone':
            'AlexNet CSPDarkNet CSPResNeXt CSPResNet Conformer ConvMixer ConvNeXt DenseNet '
            'DistilledVisionTransformer EfficientFormer EfficientNet HRNet HorNet LeNet5 MViT MlpMixer '
            'MobileNetV2 MobileNetV3 PCPVT PoolFormer RegNet RepMLPNet RepVGG Res2Net ResNeSt ResNeXt ResNet '
            'ResNetV1c ResNetV1d ResNet_CIFAR SEResNeXt SEResNet SVT ShuffleNetV1 ShuffleNetV2 SwinTransformer '
            'SwinTransformerV2 T2T_ViT TIMMBackbone TNT VAN VGG VisionTransformer',
        'classification head':
            'CSRAClsHead ClsHead ConformerHead DeiTClsHead EfficientFormerClsHead LinearClsHead MultiLabelClsHead '
            'MultiLabelLinearClsHead StackedLinearClsHead VisionTransformerClsHead',
        'classifier':
            'ImageClassifier',
        'dataset':
            'CIFAR10 CIFAR100 CUB ClassBalancedDataset ConcatDataset CustomDataset FashionMNIST ImageNet '
            'ImageNet21k KFoldDataset MNIST RepeatDataset StanfordCars VOC',
        'hook':
            'ClassNumCheckHook CosineAnnealingCooldownLrUpdaterHook MMClsWandbHook PreciseBNHook',
        'loss':
            'AsymmetricLoss CrossEntropyLoss FocalLoss LabelSmoothLoss SeesawLoss',
        'mixing':
            'BatchCutMix BatchMixup BatchResizeMix Identity',
        'neck':
            'GeneralizedMeanPooling GlobalAveragePooling HRFuseScales',
        'norm layer':
            'LN2d',
        'optimizer':
            'Lamb',
        'pipeline':
            'Albu AutoAugment AutoContrast Brightness CenterCrop Collect ColorJitter ColorTransform Compose '
            'Contrast Cutout Equalize ImageToTensor Invert Lighting LoadImageFromFile Normalize Pad Posterize '
            'RandAugment RandomCrop RandomErasing RandomFlip RandomGrayscale RandomResizedCrop Resize Rotate '
            'Sharpness Shear Solarize SolarizeAdd ToHalf ToNumpy ToPIL ToTensor Translate Transpose '
            'WrapFieldsToLists',
        'sampler':
            'DistributedSampler RepeatAugSampler',
    },
    'mmcv': {
        'activation':
            'Clamp Clip ELU GELU HSigmoid HSwish LeakyReLU PReLU RReLU ReLU ReLU6 SiLU Sigmoid Swish Tanh',
        'attention':
            'MultiScaleDeformableAttention MultiheadAttention',
        'convolution':
            'Conv Conv1d Conv2d Conv2dAdaptivePadding Conv3d ConvAWS ConvTranspose2d ConvTranspose3d ConvWS DCN '
            'DCNv2 SAC SparseConv2d SparseConv3d SparseConv4d SparseConvTranspose2d SparseConvTranspose3d '
            'SparseInverseConv2d SparseInverseConv3d SubMConv2d SubMConv3d SubMConv4d deconv deconv3d',
        'dropout layer':
            'DropPath Dropout',
        'hook':
            'CheckpointHook ClearMLLoggerHook ClosureHook CosineAnnealingLrUpdaterHook '
            'CosineAnnealingMomentumUpdaterHook CosineRestartLrUpdaterHook CyclicLrUpdaterHook '
            'CyclicMomentumUpdaterHook DistSamplerSeedHook DvcliveLoggerHook EMAHook EmptyCacheHook '
            'ExpLrUpdaterHook FixedLrUpdaterHook FlatCosineAnnealingLrUpdaterHook Fp16OptimizerHook '
            'GradientCumulativeFp16OptimizerHook GradientCumulativeOptimizerHook IPUFp16OptimizerHook '
            'InvLrUpdaterHook IterTimerHook LinearAnnealingLrUpdaterHook LinearAnnealingMomentumUpdaterHook '
            'MlflowLoggerHook NeptuneLoggerHook OneCycleLrUpdaterHook OneCycleMomentumUpdaterHook OptimizerHook '
            'PaviLoggerHook PolyLrUpdaterHook ProfilerHook RFSearchHook SegmindLoggerHook StepLrUpdaterHook '
            'StepMomentumUpdaterHook SyncBuffersHook TensorboardLoggerHook TextLoggerHook WandbLoggerHook',
        'initializer':
            'Caffe2Xavier Constant Kaiming Normal Pretrained TruncNormal Uniform Xavier',
        'module wrapper':
            'DataParallel DistributedDataParallel MMDistributedDataParallel',
        'norm layer':
            'BN BN1d BN2d BN3d GN IN IN1d IN2d IN3d LN MMSyncBN SyncBN',
        'optimizer constructor':
            'DefaultOptimizerConstructor',
        'padding':
            'reflect replicate zero',
        'plugin':
            'ContextBlock ConvModule CrissCrossAttention GeneralizedAttention NonLocal2d',
        'RoI layer':
            'DeformRoIPool DeformRoIPoolPack ModulatedDeformRoIPoolPack PrRoIPool RoIAlign RoIAlignRotated RoIPool',
        'runner':
            'EpochBasedRunner IPUEpochBasedRunner IPUIterBasedRunner IterBasedRunner Runner',
        'runner constructor':
            'DefaultRunnerConstructor',
        'transformer':
            'BaseTransformerLayer FFN TransformerLayerSequence',
        'upsampling':
            'bilinear carafe deconv deconv3d nearest pixel_shuffle',
    },
}  # yapf: disable
# Types that users request by name and that V2 does not have.
_NEWER = (
    'RTMDet RTMDetHead RTMDetInsHead CSPNeXt CSPNeXtPAFPN DINO DINOHead DABDETR ConditionalDETR CondInst BoxInst '
    'GroundingDINO GLIP DDQDETR CoDETR CrowdDet EfficientDet Boxinst ViTDet DetDataPreprocessor YOLOv5Head YOLOv8Head '
    'DetTTAModel QDTrack MaskTrackRCNN').split()
_OF_TEXT_FILES = ('yolodataset', 'yolov5dataset', 'yolov5cocodataset', 'yolov8dataset')
# The usual type of each part: suggested where no name is similar.
_USUAL = ('FasterRCNN', 'ImageClassifier', 'ResNet', 'FPN', 'RetinaHead', 'Shared2FCBBoxHead',
          'FCNMaskHead', 'StandardRoIHead', 'SingleRoIExtractor', 'LinearClsHead',
          'CrossEntropyLoss', 'MaxIoUAssigner', 'RandomSampler', 'DeltaXYWHBBoxCoder',
          'AnchorGenerator', 'CocoDataset', 'CustomDataset', 'DistributedSampler', 'AdamW',
          'EpochBasedRunner', 'BN', 'Conv2d', 'ReLU', 'ContextBlock', 'LoadImageFromFile')
_OWN = "register a class of your own and import it by custom_imports=dict(imports=['your.module'])"


def packages_of(name: str, kind: Optional[str] = None) -> List[str]:
    """Return the packages that have a type of this name, optionally of one registry or part."""
    return [
        package for package, parts in _NAMES.items()
        if any(name in names.split() for part, names in parts.items()
               if kind in (None, part, registry_of(part)))
    ]


def registry_of(part: str) -> str:
    """Return the registry of a part: 'model' for 'backbone'."""
    return 'model' if part in _MODEL_PARTS else part


def parts_of(name: str) -> List[str]:
    """Return the parts that have a type of this name: ['backbone'] for 'ResNet'."""
    return list(
        dict.fromkeys(part for parts in _NAMES.values() for part, names in parts.items()
                      if name in names.split()))


def names_of_registry(kind: str) -> Dict[str, List[str]]:
    """Return the type names of V2 of one registry, by package."""
    return {
        package: [
            name for part, names in parts.items() if registry_of(part) == kind
            for name in names.split()
        ]
        for package, parts in _NAMES.items()
    }


def without_scope(name: str) -> str:
    """Return 'ResNet' for 'mmdet.ResNet', and any other name as it is."""
    scope, dot, rest = name.partition('.')
    return rest if dot and scope in SCOPES else name


def foreign_answer(name: str, kind: str, known: Iterable[str] = ()) -> Optional[str]:
    """Return a message for a V2 type that is not here, or for an unknown scope; else None.

    Args:
        kind: the registry, or the kind of layer, that the type is looked for in.
        known: the types that are here.
    """
    scope, dot, rest = name.partition('.')
    if dot and scope not in SCOPES and rest.isidentifier():
        return f'there is no scope {scope!r}; write the type alone, {rest!r}'
    name = without_scope(name)
    if name.lower() in _OF_TEXT_FILES:
        return f"{name} is of no V2 package: read annotations in COCO's json form by CocoDataset"
    found = packages_of(name)
    if not found and name not in _NEWER:
        return None
    owner = ' and '.join(SCOPES[package] for package in found) or 'newer packages'
    registries = {registry_of(part) for part in parts_of(name)}
    if found and kind in _REGISTRIES and registries <= set(_REGISTRIES) - {kind}:
        return (f'{name!r} is a type of {owner} for {" and ".join(sorted(registries))}s, '
                f'not for {kind}s')
    return f'{name!r} is a type of {owner} that is not supported here; {_advice(name, kind, known)}'


def is_not_supported(message: str) -> bool:
    """Return whether a message is the answer of `foreign_answer` for a type that is not here."""
    return 'that is not supported here; ' in message


def nearest_of_its_part(name: str, kind: str, known: Iterable[str]) -> List[str]:
    """Return up to three of the known types: similar names of the same part, else its usual type."""
    known = [other for other in known if isinstance(other, str)]
    peers = _peers(name)
    same = [other for other in known if other in peers] or (known if kind != 'model' else [])
    usual = [other for other in _USUAL if other in same]
    return spelling.nearest(name, same, 3) or usual[:1] or spelling.nearest(name, same, cutoff=0.)


def _peers(name: str) -> Collection[str]:
    """Return the names of a type's part in its packages."""
    return {
        other
        for parts in _NAMES.values()
        for names in parts.values() if name in names.split() for other in names.split()
    }


def _advice(name: str, kind: str, known: Iterable[str]) -> str:
    """Return the nearest types that are here, and what to write."""
    instead = _setting_instead(name)
    if instead:
        return f'to fix: write {instead}'
    near = nearest_of_its_part(name, kind, known)
    if not near:
        return f'to fix: {_OWN}'
    change = 'leave it out' if kind in ('hook', 'pipeline') else f'write type={near[0]!r}'
    own = f', or {_OWN}' if kind in _REGISTRIES else ''
    return f'nearest: {", ".join(map(repr, near))}; to fix: {change}{own}'


def _setting_instead(name: str) -> Optional[str]:
    """Return the line of a config that does what a hook of mmcv does; None for any other type."""
    if name == 'ClassNumCheckHook':
        return "dict(type='NumClassCheckHook')"
    if packages_of(name, 'hook') != ['mmcv'] or name.startswith('IPU'):
        return None
    for ending, section in (('LrUpdaterHook', 'lr'), ('MomentumUpdaterHook', 'momentum')):
        if name.endswith(ending):
            policy = name[:-len(ending)]
            return f'{section}_config = dict(policy={policy!r}, ...) instead of the hook'
    return f'optimizer_config = dict(type={name!r})' if name.endswith('OptimizerHook') else None
