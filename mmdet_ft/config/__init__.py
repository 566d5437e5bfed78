"""V2 configs: read, merge, override, print.

    load_config(path, cfg_options)   the entry point of every command                      load.py
      Config.fromfile                the file and its bases: values and their sources      config.py
        read                         bases first, then this file over them                 reading.py
          merge                      the only code where one value replaces another        config_dict.py
      replace_cfg_vals               '${key}' in values                                    load.py
      update_data_root               MMDET_DATASETS
      Config.merge_from_dict         --cfg-options                                         options.py
    Config.where, Config.history     the file and line that set a value                    layers.py, lines.py
    Config.dump                      as python, json or yaml                               writing.py
"""
from mmdet_ft.config.config import Config
from mmdet_ft.config.config_dict import ConfigDict
from mmdet_ft.config.custom_imports import import_custom_modules
from mmdet_ft.config.errors import (CheckError, ConfigError, ConfigFileError, ConfigKeyError,
                                    ConfigNotFoundError, ConfigSyntaxError, ConfigTypeError)
from mmdet_ft.config.layers import Layer, Setting
from mmdet_ft.config.load import load_config, replace_cfg_vals, update_data_root, value_at
from mmdet_ft.config.options import DictAction

__all__ = [
    'CheckError', 'Config', 'ConfigDict', 'ConfigError', 'ConfigFileError', 'ConfigKeyError',
    'ConfigNotFoundError', 'ConfigSyntaxError', 'ConfigTypeError', 'DictAction', 'Layer', 'Setting',
    'import_custom_modules', 'load_config', 'replace_cfg_vals', 'update_data_root', 'value_at'
]
