# The tutorial's name for it.
_base_ = './cifar10_bs16.py'
evaluation = dict(interval=1, metric='accuracy')
