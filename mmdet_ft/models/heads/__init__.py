from mmdet_ft.models.heads.cls_head import (ClsHead, LinearClsHead, MultiLabelClsHead,
                                            MultiLabelLinearClsHead)

__all__ = ['ClsHead', 'LinearClsHead', 'MultiLabelClsHead', 'MultiLabelLinearClsHead']
