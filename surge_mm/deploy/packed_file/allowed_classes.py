"""The classes that the config of a packed file may name.

They compute with numbers, tensors and images that are given to them. None of them runs code, fetches, or reads a file
that one of its arguments names: the constructors of MMEngine 0.10.7, MMCV 2.1 and 2.2, MMDetection 3.3 and
MMPretrain 1.2 were read for this. (``LoadImageFromFile`` and ``LoadAnnotations`` read what the data name.) Classes for
training, for text and for video are left out, and so are wrappers of other libraries. Classes that the hosts add later
are not on the list.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_NAMES = {
    'mmcv.cnn.bricks': (
        'BaseTransformerLayer Clamp ContextBlock Conv2d Conv2dAdaptivePadding Conv3d ConvAWS2d ConvModule '
        'ConvTranspose2d ConvTranspose3d ConvWS2d Dropout DropPath FFN GeneralizedAttention HSigmoid '
        'MultiheadAttention NonLocal2d PixelShufflePack Swish TransformerLayerSequence'
    ),
    'mmcv.ops': (
        'CARAFEPack CrissCrossAttention DeformConv2dPack ModulatedDeformConv2dPack MultiScaleDeformableAttention '
        'SAConv2d SyncBatchNorm'
    ),
    'mmcv.transforms': (
        'CenterCrop ImageToTensor LoadAnnotations LoadImageFromFile Normalize Pad Resize ToTensor'
    ),
    'mmdet.datasets.transforms': (
        'FixScaleResize FixShapeResize ImageToTensor LoadAnnotations LoadImageFromNDArray LoadPanopticAnnotations '
        'PackDetInputs Pad RandomCenterCropPad Resize ResizeShortestEdge ToTensor Transpose'
    ),
    'mmdet.models.backbones': (
        'CSPDarknet CSPNeXt Darknet DetectoRS_ResNet DetectoRS_ResNeXt EfficientNet HourglassNet HRNet MobileNetV2 '
        'PyramidVisionTransformer PyramidVisionTransformerV2 RegNet Res2Net ResNeSt ResNet ResNetV1d ResNeXt SSDVGG '
        'SwinTransformer TridentResNet'
    ),
    'mmdet.models.data_preprocessors': 'BoxInstDataPreprocessor DetDataPreprocessor',
    'mmdet.models.dense_heads': (
        'AnchorFreeHead AnchorHead ATSSHead AutoAssignHead BoxInstBboxHead BoxInstMaskHead CascadeRPNHead '
        'CenterNetHead CenterNetUpdateHead CentripetalHead CondInstBboxHead CondInstMaskHead ConditionalDETRHead '
        'CornerHead DABDETRHead DDODHead DDQDETRHead DecoupledSOLOHead DecoupledSOLOLightHead DeformableDETRHead '
        'DETRHead DINOHead EmbeddingRPNHead FCOSHead FoveaHead FreeAnchorRetinaHead FSAFHead GARetinaHead GARPNHead '
        'GFLHead GuidedAnchorHead Mask2FormerHead MaskFormerHead NASFCOSHead PAAHead PISARetinaHead PISASSDHead '
        'RepPointsHead RetinaHead RetinaSepBNHead RPNHead RTMDetHead RTMDetInsHead RTMDetInsSepBNHead RTMDetSepBNHead '
        'SABLRetinaHead SOLOHead SOLOV2Head SSDHead StageCascadeRPNHead TOODHead VFNetHead YOLACTHead YOLACTProtonet '
        'YOLOFHead YOLOV3Head YOLOXHead'
    ),
    'mmdet.models.detectors': (
        'ATSS AutoAssign BoxInst CascadeRCNN CenterNet CondInst ConditionalDETR CornerNet CrowdDet DABDETR DDOD '
        'DDQDETR DeformableDETR DetectionTransformer DETR DINO FasterRCNN FastRCNN FCOS FOVEA FSAF GFL GridRCNN '
        'HybridTaskCascade Mask2Former MaskFormer MaskRCNN MaskScoringRCNN NASFCOS PAA PanopticFPN PointRend '
        'QueryInst RepPointsDetector RetinaNet RPN RTMDet SCNet SingleStageDetector SingleStageInstanceSegmentor SOLO '
        'SOLOv2 SparseRCNN TOOD TridentFasterRCNN TwoStageDetector TwoStagePanopticSegmentor VFNet YOLACT YOLOF '
        'YOLOV3 YOLOX'
    ),
    'mmdet.models.layers': (
        'DropBlock DynamicConv FrozenBatchNorm2d LearnedPositionalEncoding MSDeformAttnPixelDecoder NormedConv2d '
        'NormedLinear PixelDecoder SinePositionalEncoding SinePositionalEncoding3D TransformerEncoderPixelDecoder'
    ),
    'mmdet.models.losses': (
        'AssociativeEmbeddingLoss BalancedL1Loss BoundedIoULoss CIoULoss CrossEntropyCustomLoss CrossEntropyLoss '
        'DiceLoss DIoULoss DistributionFocalLoss EIoULoss EQLV2Loss FocalCustomLoss FocalLoss GaussianFocalLoss GHMC '
        'GHMR GIoULoss IoULoss L1Loss MSELoss QualityFocalLoss SeesawLoss SIoULoss SmoothL1Loss VarifocalLoss'
    ),
    'mmdet.models.necks': (
        'BFP ChannelMapper CSPNeXtPAFPN CTResNetNeck DilatedEncoder DyHead FPG FPN FPN_CARAFE FPN_DropBlock HRFPN '
        'NASFCOS_FPN NASFPN PAFPN RFP SSDNeck SSH YOLOV3Neck YOLOXPAFPN'
    ),
    'mmdet.models.roi_heads': (
        'BBoxHead CascadeRoIHead CoarseMaskHead ConvFCBBoxHead DIIHead DoubleConvFCBBoxHead DoubleHeadRoIHead '
        'DynamicMaskHead DynamicRoIHead FCNMaskHead FeatureRelayHead FusedSemanticHead GenericRoIExtractor '
        'GlobalContextHead GridHead GridRoIHead HTCMaskHead HybridTaskCascadeRoIHead MaskIoUHead MaskPointHead '
        'MaskScoringRoIHead MultiInstanceBBoxHead MultiInstanceRoIHead PISARoIHead PointRendRoIHead ResLayer SABLHead '
        'SCNetBBoxHead SCNetMaskHead SCNetRoIHead SCNetSemanticHead Shared2FCBBoxHead Shared4Conv1FCBBoxHead '
        'SingleRoIExtractor SparseRoIHead StandardRoIHead TridentRoIHead'
    ),
    'mmdet.models.seg_heads': (
        'BasePanopticFusionHead BaseSemanticHead HeuristicFusionHead MaskFormerFusionHead PanopticFPNHead'
    ),
    'mmdet.models.task_modules.assigners': (
        'ApproxMaxIoUAssigner ATSSAssigner BBoxL1Cost BboxOverlaps2D BinaryFocalLossCost CenterRegionAssigner '
        'ClassificationCost CrossEntropyLossCost DiceCost DynamicSoftLabelAssigner FocalLossCost GridAssigner '
        'HungarianAssigner IoUCost MaxIoUAssigner MultiInstanceAssigner PointAssigner RegionAssigner SimOTAAssigner '
        'TaskAlignedAssigner TopkHungarianAssigner UniformAssigner'
    ),
    'mmdet.models.task_modules.coders': (
        'BucketingBBoxCoder DeltaXYWHBBoxCoder DistancePointBBoxCoder LegacyDeltaXYWHBBoxCoder PseudoBBoxCoder '
        'TBLRBBoxCoder YOLOBBoxCoder'
    ),
    'mmdet.models.task_modules.prior_generators': (
        'AnchorGenerator LegacyAnchorGenerator LegacySSDAnchorGenerator MlvlPointGenerator PointGenerator '
        'SSDAnchorGenerator YOLOAnchorGenerator'
    ),
    'mmdet.models.task_modules.samplers': (
        'CombinedSampler InstanceBalancedPosSampler IoUBalancedNegSampler MaskPseudoSampler MultiInsRandomSampler '
        'OHEMSampler PseudoSampler RandomSampler ScoreHLRSampler'
    ),
    'mmdet.visualization': 'DetLocalVisualizer',
    'mmengine.model.base_model': 'BaseDataPreprocessor ImgDataPreprocessor',
    'mmengine.utils.dl_utils': 'SyncBatchNorm',
    'mmengine.visualization': 'Visualizer',
    'mmpretrain.datasets.transforms': (
        'EfficientNetCenterCrop NumpyToPIL PackInputs PackMultiTaskInputs PILToNumpy ResizeEdge Transpose'
    ),
    'mmpretrain.models.backbones': (
        'AlexNet BEiTViT Conformer ConvMixer ConvNeXt CSPDarkNet CSPResNet CSPResNeXt DaViT DeiT3 DenseNet '
        'DistilledVisionTransformer EdgeNeXt EfficientFormer EfficientNet EfficientNetV2 HiViT HorNet HRNet '
        'InceptionV3 LeNet5 LeViT MixMIMTransformer MlpMixer MobileNetV2 MobileNetV3 MobileOne MobileViT MViT PCPVT '
        'PoolFormer PyramidVig RegNet RepLKNet RepMLPNet RepVGG Res2Net ResNeSt ResNet ResNet_CIFAR ResNetV1c '
        'ResNetV1d ResNeXt RevVisionTransformer RIFormer SEResNet SEResNeXt ShuffleNetV1 ShuffleNetV2 SVT '
        'SwinTransformer SwinTransformerV2 T2T_ViT TinyViT TNT VAN VGG Vig VisionTransformer ViTEVA02 ViTSAM XCiT'
    ),
    'mmpretrain.models.classifiers': 'ImageClassifier',
    'mmpretrain.models.heads': (
        'ClsHead ConformerHead CSRAClsHead DeiTClsHead EfficientFormerClsHead LeViTClsHead LinearClsHead '
        'MultiLabelClsHead MultiLabelLinearClsHead MultiTaskHead StackedLinearClsHead VigClsHead '
        'VisionTransformerClsHead'
    ),
    'mmpretrain.models.losses': (
        'AsymmetricLoss CrossEntropyLoss FocalLoss LabelSmoothLoss SeesawLoss'
    ),
    'mmpretrain.models.necks': (
        'GeneralizedMeanPooling GlobalAveragePooling HRFuseScales LinearNeck'
    ),
    'mmpretrain.models.utils': (
        'ClsDataPreprocessor GRN LayerNorm2d QuickGELU ResLayerExtraNorm ShiftWindowMSA'
    ),
    'mmpretrain.visualization': 'UniversalVisualizer',
    'surge_mm.layers': 'RPReLU SurgeConv2d SurgeLinear',
    'surge_mm.models': (
        'BatchAugmentPreprocessor Binarized ReActNetA SSDHead SurgeResNet SurgeVGGSmall'
    ),
    'surge_mm.ops': (
        'AdaBin ApproxSign EDE Libra ReAct Real ReCU ReSTE RSign ScaledSign Sign STESign XNOR'
    ),
    'torch.nn.modules': (
        'BatchNorm1d BatchNorm2d BatchNorm3d Conv1d Conv2d ELU GELU GroupNorm Hardswish Hardtanh InstanceNorm1d '
        'InstanceNorm2d InstanceNorm3d LayerNorm LeakyReLU Linear PReLU ReflectionPad2d ReLU ReLU6 ReplicationPad2d '
        'RReLU Sigmoid SiLU Tanh Upsample ZeroPad2d'
    ),
}
ALLOWED = frozenset((package, name) for package, names in _NAMES.items() for name in names.split())
"""Pairs of a package and the name of a class that is defined in it or in one of its modules."""


def full_name(cls: Any) -> str:
    """Return the module and the name of a class or function, such as ``'torch.nn.modules.conv.Conv2d'``.

    Args:
        cls (Any): The class, or a ``functools.partial`` of it as the registry of MMPretrain has them.
    """
    cls = getattr(cls, 'func', cls)
    return f'{cls.__module__}.{cls.__qualname__}'


def is_allowed(cls: Any, allow: Collection[type | str] = ()) -> bool:
    """Return whether the config of a packed file may name a class.

    Args:
        cls (Any): The class.
        allow (Collection[type | str]): Further classes, or their full names. Defaults to none.
    """
    name = full_name(cls)
    if cls in allow or name in allow:
        return True
    package, _, own = name.rpartition('.')
    while package:
        if (package, own) in ALLOWED:
            return True
        package = package.rpartition('.')[0]
    return False
