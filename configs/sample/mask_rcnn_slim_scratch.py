# The same run without pretraining, to be compared with.
_base_ = './mask_rcnn_slim_ft.py'
load_from = None
