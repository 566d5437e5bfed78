"""The type names of MMDetection 2.28.2, MMClassification 0.25.0 and mmcv 1.7.2, by package and kind.

This is the only list of V2's types. A type in this list and in no registry is reported as V2's, not as a typo.
A scope, as in `type='mmcls.ResNet'`, is that of a package here.
"""
from typing import Dict, List, Optional

# Packages and their names in messages.
SCOPES = {'mmdet': 'MMDetection', 'mmcls': 'MMClassification', 'mmcv': 'mmcv'}

_NAMES: Dict[str, Dict[str, str]] = {
    'mmdet': {
        'convolution':
            'NormedConv2d',
        'dataset':
            'CityscapesDataset ClassBalancedDataset CocoDataset CocoPanopticDataset ConcatDataset CustomDataset '
            'DeepFashionDataset LVISDataset LVISV05Dataset LVISV1Dataset MultiImageMixDataset Objects365V1Dataset '
            'Objects365V2Dataset OccludedSeparatedCocoDataset OpenImagesChallengeDataset OpenImagesDataset '
            'RepeatDataset VOCDataset WIDERFaceDataset XMLDataset',
        'hook':
            'CheckInvalidLossHook ExpMomentumEMAHook LinearMomentumEMAHook MMDetWandbHook MemoryProfilerHook '
            'NumClassCheckHook SetEpochInfoHook SyncNormHook SyncRandomSizeHook YOLOXLrUpdaterHook '
            'YOLOXModeSwitchHook',
        'model':
            'ATSS ATSSAssigner ATSSHead AnchorFreeHead AnchorGenerator AnchorHead ApproxMaxIoUAssigner '
            'AscendAnchorHead AscendMaxIoUAssigner AscendRetinaHead AscendSSDHead AssociativeEmbeddingLoss '
            'AutoAssign AutoAssignHead BBoxHead BBoxL1Cost BFP BalancedL1Loss BboxOverlaps2D BoundedIoULoss '
            'BucketingBBoxCoder CIoULoss CSPDarknet CTResNetNeck CascadeRCNN CascadeRPNHead CascadeRoIHead '
            'CenterNet CenterNetHead CenterRegionAssigner CentripetalHead ChannelMapper ClassificationCost '
            'CoarseMaskHead CombinedSampler ConvFCBBoxHead CornerHead CornerNet CrossEntropyLoss '
            'CrossEntropyLossCost DDOD DDODHead DETR DETRHead DIIHead DIoULoss Darknet DecoupledSOLOHead '
            'DecoupledSOLOLightHead DeformableDETR DeformableDETRHead DeformableDetrTransformer '
            'DeformableDetrTransformerDecoder DeltaXYWHBBoxCoder DetectoRS_ResNeXt DetectoRS_ResNet '
            'DetrTransformerDecoder DetrTransformerDecoderLayer DetrTransformerEncoder DiceCost DiceLoss '
            'DilatedEncoder DistancePointBBoxCoder DistributionFocalLoss DoubleConvFCBBoxHead DoubleHeadRoIHead '
            'DropBlock DyHead DynamicConv DynamicMaskHead DynamicRoIHead EfficientNet EmbeddingRPNHead '
            'FCNMaskHead FCOS FCOSHead FOVEA FPG FPN FPN_CARAFE FSAF FSAFHead FastRCNN FasterRCNN '
            'FeatureRelayHead FocalLoss FocalLossCost FoveaHead FreeAnchorRetinaHead FusedSemanticHead GARPNHead '
            'GARetinaHead GFL GFLHead GHMC GHMR GIoULoss GaussianFocalLoss GenericRoIExtractor GlobalContextHead '
            'GridAssigner GridHead GridRCNN GridRoIHead GuidedAnchorHead HRFPN HRNet HTCMaskHead '
            'HeuristicFusionHead HourglassNet HungarianAssigner HybridTaskCascade HybridTaskCascadeRoIHead '
            'InstanceBalancedPosSampler IoUBalancedNegSampler IoUCost IoULoss KnowledgeDistillationKLDivLoss '
            'KnowledgeDistillationSingleStageDetector L1Loss LAD LADHead LDHead LearnedPositionalEncoding '
            'LegacyAnchorGenerator LegacyDeltaXYWHBBoxCoder LegacySSDAnchorGenerator Linear '
            'MSDeformAttnPixelDecoder MSELoss Mask2Former Mask2FormerHead MaskFormer MaskFormerFusionHead '
            'MaskFormerHead MaskHungarianAssigner MaskIoUHead MaskPointHead MaskPseudoSampler MaskRCNN '
            'MaskScoringRCNN MaskScoringRoIHead MaxIoUAssigner MlvlPointGenerator MobileNetV2 NASFCOS NASFCOSHead '
            'NASFCOS_FPN NASFPN NormedLinear OHEMSampler PAA PAAHead PAFPN PISARetinaHead PISARoIHead PISASSDHead '
            'PanopticFPN PanopticFPNHead PixelDecoder PointAssigner PointGenerator PointRend PointRendRoIHead '
            'PseudoBBoxCoder PseudoSampler PyramidVisionTransformer PyramidVisionTransformerV2 QualityFocalLoss '
            'QueryInst RFP RPN RPNHead RandomSampler RegNet RegionAssigner RepPointsDetector RepPointsHead '
            'Res2Net ResLayer ResNeSt ResNeXt ResNet ResNetV1d RetinaHead RetinaNet RetinaSepBNHead SABLHead '
            'SABLRetinaHead SCNet SCNetBBoxHead SCNetMaskHead SCNetRoIHead SCNetSemanticHead SOLO SOLOHead '
            'SOLOV2Head SOLOv2 SSDAnchorGenerator SSDHead SSDNeck SSDVGG ScoreHLRSampler SeesawLoss '
            'Shared2FCBBoxHead Shared4Conv1FCBBoxHead SimOTAAssigner SinePositionalEncoding SingleRoIExtractor '
            'SingleStageDetector SingleStageInstanceSegmentor SmoothL1Loss SparseRCNN SparseRoIHead '
            'StageCascadeRPNHead StandardRoIHead SwinTransformer TBLRBBoxCoder TOOD TOODHead TaskAlignedAssigner '
            'Transformer TransformerEncoderPixelDecoder TridentFasterRCNN TridentResNet TridentRoIHead '
            'TwoStageDetector TwoStagePanopticSegmentor UniformAssigner VFNet VFNetHead VarifocalLoss YOLACT '
            'YOLACTHead YOLACTProtonet YOLACTSegmHead YOLOAnchorGenerator YOLOBBoxCoder YOLOF YOLOFHead YOLOV3 '
            'YOLOV3Head YOLOV3Neck YOLOX YOLOXHead YOLOXPAFPN',
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
    },
    'mmcls': {
        'dataset':
            'CIFAR10 CIFAR100 CUB ClassBalancedDataset ConcatDataset CustomDataset FashionMNIST ImageNet '
            'ImageNet21k KFoldDataset MNIST RepeatDataset StanfordCars VOC',
        'hook':
            'ClassNumCheckHook CosineAnnealingCooldownLrUpdaterHook MMClsWandbHook PreciseBNHook',
        'model':
            'AlexNet AsymmetricLoss BatchCutMix BatchMixup BatchResizeMix CSPDarkNet CSPResNeXt CSPResNet '
            'CSRAClsHead ClsHead Conformer ConformerHead ConvMixer ConvNeXt CrossEntropyLoss DeiTClsHead DenseNet '
            'DistilledVisionTransformer EfficientFormer EfficientFormerClsHead EfficientNet FocalLoss '
            'GeneralizedMeanPooling GlobalAveragePooling HRFuseScales HRNet HorNet Identity ImageClassifier '
            'LabelSmoothLoss LeNet5 LinearClsHead MViT MlpMixer MobileNetV2 MobileNetV3 MultiLabelClsHead '
            'MultiLabelLinearClsHead PCPVT PoolFormer RegNet RepMLPNet RepVGG Res2Net ResNeSt ResNeXt ResNet '
            'ResNetV1c ResNetV1d ResNet_CIFAR SEResNeXt SEResNet SVT SeesawLoss ShiftWindowMSA ShuffleNetV1 '
            'ShuffleNetV2 StackedLinearClsHead SwinTransformer SwinTransformerV2 T2T_ViT TIMMBackbone TNT VAN VGG '
            'VisionTransformer VisionTransformerClsHead',
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
        'convolution':
            'Conv Conv1d Conv2d Conv2dAdaptivePadding Conv3d ConvAWS ConvWS DCN DCNv2 SAC deconv deconv3d',
        'hook':
            'CheckpointHook ClearMLLoggerHook ClosureHook CosineAnnealingLrUpdaterHook '
            'CosineAnnealingMomentumUpdaterHook CosineRestartLrUpdaterHook CyclicLrUpdaterHook '
            'CyclicMomentumUpdaterHook DistSamplerSeedHook DvcliveLoggerHook EMAHook EmptyCacheHook '
            'ExpLrUpdaterHook FixedLrUpdaterHook FlatCosineAnnealingLrUpdaterHook Fp16OptimizerHook '
            'GradientCumulativeFp16OptimizerHook GradientCumulativeOptimizerHook IPUFp16OptimizerHook InvLrUpdaterHook '
            'IterTimerHook LinearAnnealingLrUpdaterHook LinearAnnealingMomentumUpdaterHook MlflowLoggerHook '
            'NeptuneLoggerHook OneCycleLrUpdaterHook '
            'OneCycleMomentumUpdaterHook OptimizerHook PaviLoggerHook PolyLrUpdaterHook ProfilerHook RFSearchHook '
            'SegmindLoggerHook StepLrUpdaterHook StepMomentumUpdaterHook SyncBuffersHook TensorboardLoggerHook '
            'TextLoggerHook WandbLoggerHook',
        'initialiser':
            'Caffe2Xavier Constant Kaiming Normal Pretrained TruncNormal Uniform Xavier',
        'model':
            'BaseTransformerLayer DropPath Dropout FFN MultiScaleDeformableAttention '
            'MultiheadAttention TransformerLayerSequence',
        'norm layer':
            'BN BN1d BN2d BN3d GN IN IN1d IN2d IN3d LN MMSyncBN SyncBN',
        'optimizer constructor':
            'DefaultOptimizerConstructor',
        'plugin':
            'ContextBlock ConvModule CrissCrossAttention GeneralizedAttention NonLocal2d',
        'runner':
            'EpochBasedRunner IPUEpochBasedRunner IPUIterBasedRunner IterBasedRunner Runner',
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
LOGGERS = ('TextLoggerHook', 'TensorboardLoggerHook')


def packages_of(name: str, kind: Optional[str] = None) -> List[str]:
    """Return the packages that have a type of this name, optionally of one kind."""
    return [
        package for package, kinds in _NAMES.items()
        if any(name in names.split() for of, names in kinds.items() if kind in (None, of))
    ]


def without_scope(name: str) -> str:
    """Return 'ResNet' for 'mmdet.ResNet', and any other name as it is."""
    scope, dot, rest = name.partition('.')
    return rest if dot and scope in SCOPES else name


def foreign_answer(name: str, kind: str) -> Optional[str]:
    """Return a message for a V2 type that is not here, or for an unknown scope; else None."""
    scope, dot, rest = name.partition('.')
    if dot and scope not in SCOPES and rest.isidentifier():
        return f'there is no scope {scope!r}; write the type alone, {rest!r}'
    name = without_scope(name)
    found = packages_of(name)
    if name.lower() in _OF_TEXT_FILES:
        return f"{name} is of no V2 package: read annotations in COCO's json form by CocoDataset"
    if not found and name not in _NEWER:
        return None
    owner = ' and '.join(SCOPES[package] for package in found) or 'newer packages'
    here = f'; the loggers here are {" and ".join(LOGGERS)}' if name.endswith(
        ('LoggerHook', 'WandbHook')) else ''
    return f'{name} is a type of {owner} and is not supported{here}'
