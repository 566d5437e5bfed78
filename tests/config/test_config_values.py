"""Changing, writing, copying and overriding a config, and what the command line says."""
import argparse
import copy
import json
import keyword
import math
import pickle
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.config import (Config, ConfigDict, ConfigError, ConfigKeyError, ConfigTypeError,
                             DictAction, import_custom_modules, load_config, replace_cfg_vals,
                             update_data_root)

# --- access


def test_values_are_items_and_attributes_at_every_depth():
    config = Config(dict(model=dict(heads=[dict(type='A'), (dict(type='B'), )]), lr=0.1))
    assert config.model.heads[0].type == config['model']['heads'][0]['type'] == 'A'
    assert config.model.heads[1][0].type == 'B'
    assert isinstance(config.model, dict) and type(config.model) is ConfigDict
    assert len(config) == 2 and list(config) == ['model', 'lr'] and 'lr' in config
    assert config.get('none', 3) == 3 and config.pop('lr') == 0.1 and 'lr' not in config
    assert repr(Config(dict(a=1))) == "Config (path: None): {'a': 1}"


def test_a_missing_name_is_an_attribute_error_and_a_missing_item_a_key_error():
    config = Config(dict(model=dict(backbone=dict(depth=50))))
    with pytest.raises(AttributeError, match="'modle'; did you mean 'model'"):
        config.modle
    with pytest.raises(AttributeError):
        config.model.neck
    with pytest.raises(KeyError):
        config.model['neck']
    assert not hasattr(config, 'neck') and getattr(config.model, 'neck', None) is None


def test_dicts_put_in_become_config_dicts():
    config = Config(dict(a=dict(b=1)))
    config.c = dict(d=[dict(e=2)])
    config['f'] = dict(g=3)
    config.a.h = [dict(i=4)]
    config.a.setdefault('j', {})['k'] = 5
    config.a.update(b=dict(l=6))
    assert (config.c.d[0].e, config.f.g, config.a.h[0].i, config.a.j.k, config.a.b.l) == (2, 3, 4,
                                                                                          5, 6)


def test_a_list_put_in_stays_the_same_object():
    config, hooks = Config(dict(a=dict())), []
    config.a.hooks = hooks
    hooks.append(1)
    assert config.a.hooks == [1]


def test_a_config_copies_what_it_is_made_of():
    values = dict(a=dict(b=[dict(c=1)]))
    config = Config(values)
    config.a.b[0].c = 2
    assert values == dict(a=dict(b=[dict(c=1)]))
    assert type(config._cfg_dict.to_dict()['a']['b'][0]) is dict


def test_a_config_of_something_else_is_refused():
    with pytest.raises(TypeError, match='cfg_dict must be a dict'):
        Config([1])


@pytest.mark.parametrize('duplicate',
                         [copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_deep_copies_and_pickles_are_equal_and_independent(duplicate):
    config = Config(dict(a=dict(b=[1, dict(c=2)])), cfg_text='text', filename='x.py')
    other = duplicate(config)
    assert other._cfg_dict == config._cfg_dict and (other.filename, other.text) == ('x.py', 'text')
    assert type(other.a.b[1]) is ConfigDict
    other.a.b[1].c = 3
    other.d = 4
    assert config.a.b[1].c == 2 and 'd' not in config


def test_a_shallow_copy_shares_its_values():
    config = Config(dict(a=dict(b=1)))
    other = copy.copy(config)
    other.a.b = 2
    assert config.a.b == 2
    other.merge_from_dict({'a.b': 3})
    assert config.a.b == 2


# --- options


def merged(values, options, **kwargs):
    config = Config(values)
    config.merge_from_dict(options, **kwargs)
    return config._cfg_dict.to_dict()


def test_options_go_to_dotted_paths_through_lists_and_tuples():
    values = dict(a=dict(b=1, c=2), p=[dict(type='A', x=1), dict(type='B')], s=(1, 2), w=[['t', 1]])
    options = {'a.b': 3, 'a.d.e': 4, 'p.0.x': 5, 's.1': 6, 'w.0.1': 7}
    assert merged(values, options) == dict(
        a=dict(b=3, c=2, d=dict(e=4)),
        p=[dict(type='A', x=5), dict(type='B')],
        s=(1, 6),
        w=[['t', 7]])
    assert values['p'][0]['x'] == 1


def test_options_may_be_dicts_and_delete():
    values = dict(a=dict(b=1, c=2), p=[dict(type='A', x=1)])
    assert merged(values, dict(a=dict(b=5)))['a'] == dict(b=5, c=2)
    assert merged(values, {'a._delete_': True, 'a.d': 1})['a'] == dict(d=1)
    assert merged(values, dict(p={'0': dict(type='B')}))['p'] == [dict(type='B', x=1)]


def test_a_dict_says_what_its_keys_would_say_one_by_one():
    values = dict(a=dict(type='A', b=dict(c=1, d=2)), p=[dict(x=1), dict(x=2)], none=None)
    for options in ({'a': dict(type='B', b=dict(c=5))}, {'a.type': 'B', 'a.b': dict(c=5)},
                    {'a.b': dict(c=3), 'a': dict(type='B', b=dict(c=5))},
                    {'a': dict(type='B', b=dict(c=3)), 'a.b.c': 5}):  # yapf: disable
        given = copy.deepcopy(options)
        assert merged(values, options)['a'] == dict(type='B', b=dict(c=5, d=2))
        assert options == given
    assert merged(values, {'p.1': dict(y=3)})['p'] == [dict(x=1), dict(x=2, y=3)]
    assert merged(values, {'none': dict(x=1), 'new': {}}) == dict(values, none=dict(x=1), new={})
    assert merged(values, {'a.b': {'layer.0': dict(lr_mult=0.1)}})['a']['b']['layer.0']


def test_a_dict_that_deletes_replaces_what_was_there():
    values = dict(a=dict(type='A', b=dict(c=1, d=2)), p=[dict(x=1), dict(x=2)])
    assert merged(values, {'a': dict(_delete_=True, type='B')})['a'] == dict(type='B')
    assert merged(values, {'a': dict(b=dict(_delete_=True, e=3))})['a'] == dict(
        type='A', b=dict(e=3))
    assert merged(values, {'a': dict(_delete_=True, x=1), 'a.y': 2})['a'] == dict(x=1, y=2)
    assert merged(values, {'p': dict(_delete_=True, x=1)})['p'] == dict(x=1)
    assert merged(values, {'p.0': dict(_delete_=True, y=1)})['p'] == [dict(y=1), dict(x=2)]


def test_an_option_of_the_place_behind_the_last_item_appends():
    values = dict(hooks=[dict(type='A')], step=(8, 11), none=[])
    assert merged(values, {'hooks.1.type': 'B', 'hooks.1.x': 2})['hooks'] == [
        dict(type='A'), dict(type='B', x=2)
    ]  # yapf: disable
    assert merged(values, {'step.2': 20, 'step.3': 30})['step'] == (8, 11, 20, 30)
    assert merged(values, {'none.0': dict(y=1)})['none'] == [dict(y=1)]
    config = Config(values)
    config.merge_from_dict({'hooks.1.type': 'B'})
    assert config.where('hooks.1.type') == '--cfg-options hooks.1.type'
    assert config.where('hooks.1') == '--cfg-options hooks.1'


def test_options_give_attribute_access_to_new_values():
    config = Config(dict(a=1))
    config.merge_from_dict({'b.c': [dict(d=2)]})
    assert config.b.c[0].d == 2


@pytest.mark.parametrize('options, message', [
    ({
        'p.2.x': 1
    }, 'p.2: p is a list of 1, numbered from 0; p.1 appends an item'),
    ({
        'p.x': 1
    }, 'p.x: p is a list of 1'),
    ({
        'lr.x': 1
    }, 'lr: is a dict here but 0.1 in the base'),
    ({
        'a': 1,
        'a.b': 2
    }, "'a.b': another option sets 'a' as a whole"),
])
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        merged(dict(p=[dict(y=1)], lr=0.1), options)


def test_without_list_keys_a_list_is_not_entered():
    with pytest.raises(TypeError):
        merged(dict(p=[1]), {'p.0': 2}, allow_list_keys=False)
    assert merged(dict(p={'0': 1}), {'p.0': 2}, allow_list_keys=False) == dict(p={'0': 2})


def parse(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args(words).cfg_options


@pytest.mark.parametrize('text, value', [
    ('1', 1),
    ('-1', -1),
    ('1.5', 1.5),
    ('1e-3', 1e-3),
    ('true', True),
    ('False', False),
    ('None', None),
    ('none', 'none'),
    ('word', 'word'),
    ('', ''),
    ('a=b', 'a=b'),
    ('1,2', [1, 2]),
    ('1,', [1]),
    ('a,b,true', ['a', 'b', True]),
    ('[]', []),
    ('()', ()),
    ('[1]', [1]),
    ('(1,)', (1, )),
    ('(1333,800)', (1333, 800)),
    ('[(1333,640),(1333,800)]', [(1333, 640), (1333, 800)]),
    ('(1,2),(3,4)', [(1, 2), (3, 4)]),
    ('[1],[2,3]', [[1], [2, 3]]),
    ('[(a, b), [c, None]]', [('a', 'b'), ['c', None]]),
    ('"[a,b]"', ['a', 'b']),
    ("['a','b c']", ['a', 'b c']),
    ('[("train",1),("val",1)]', [('train', 1), ('val', 1)]),
    ('/path with/space', '/path with/space'),
    ('norm(', 'norm('),
    ('https://a.b/c.pth', 'https://a.b/c.pth'),
    ('{a}', '{a}'),
    ('{a}/{b:03d}.jpg', '{a}/{b:03d}.jpg'),
    ('{i:03d}.jpg', '{i:03d}.jpg'),
    ('{a,b}.jpg', ['{a', 'b}.jpg']),
    ('${a.b}', '${a.b}'),
    ('{{fileDirname}}', '{{fileDirname}}'),
    ('dictionary', 'dictionary'),
    ('dict,1', ['dict', 1]),
])
def test_words_of_the_command_line_become_values(text, value):
    result = parse('--cfg-options', f'key.sub={text}')['key.sub']
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize('text, value', [
    ('{"type":"Adam","lr":0.001}', dict(type='Adam', lr=0.001)),
    ("{'type': 'Adam', 'betas': (0.9, 0.99)}", dict(type='Adam', betas=(0.9, 0.99))),
    ('dict(type="A")', dict(type='A')),
    ('dict( type = "A", x = dict(y=[{"z": -1}, None]) )',
     dict(type='A', x=dict(y=[dict(z=-1), None]))),
    ('{}', {}),
    ('dict()', {}),
    ('{1: 2}', {
        1: 2
    }),
    ('{"a": true, "b": FALSE, "c": True}', dict(a=True, b=False, c=True)),
    ('{"a": "}),(", "b": "it\'s"}', {
        'a': '}),(',
        'b': "it's"
    }),
    ('[{"type":"LoadImageFromFile"}]', [dict(type='LoadImageFromFile')]),
    ('[dict(type="A",x=(1,2)),{"type":"B","y":[3,4]}]',
     [dict(type='A', x=(1, 2)), dict(type='B', y=[3, 4])]),
    ('({"a":1,"b":2},word,3)', ({
        'a': 1,
        'b': 2
    }, 'word', 3)),
    ('{"a":1,"b":2},{"a":3}', [dict(a=1, b=2), dict(a=3)]),
    ('[ [ {"a":"]"} , 1 ] , 2 ]', [[dict(a=']'), 1], 2]),
    ('{"a":1},', [dict(a=1)]),
    ('"{"a":1}"', dict(a=1)),
])
def test_dicts_of_literals_are_read_on_the_command_line(text, value):
    result = parse('--cfg-options', f'key.sub={text}')['key.sub']
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize('text', [
    '{type:Adam}', '{type:', '{"type":"Adam"', 'dict(type=Adam)', 'dict(', 'dict(1)', 'dict(**x)',
    '{"a": f()}', '{"a": 1/3}', '{"a":1,**x}', '{"a","b"}', '{"a":1,[1]: 2}', '[{a:1}]', '[dict(a=b),1]',
    'dict(a=__import__("os"))', 'dict(a=[].append(1))'
])  # yapf: disable
def test_what_only_looks_like_a_dict_is_refused_with_the_way_to_write_it(text, capsys):
    with pytest.raises(SystemExit):
        parse('--cfg-options', f'key={text}')
    error = capsys.readouterr().err
    assert repr(f'key={text}') in error and error.count('looks like a dict but cannot be read') == 1
    assert """'key={"type":"A","x":1}'""" in error


@pytest.mark.parametrize('value', [
    {}, dict(a=1), dict(a='x,y', b=[1, (2.5, None)], c=dict(d=True)), dict(a=['[', '{', "'", '"']),
])  # yapf: disable
def test_a_dict_as_python_prints_it_is_read_again(value):
    for text in (repr(value), f'[{value},{value}]', f'({value}, )'):
        result = parse('--cfg-options', f'key={text}')['key']
        assert result == {'[': [value, value], '(': (value, )}.get(text[0], value)


def test_options_given_twice_add_up():
    assert parse('--cfg-options', 'a=1', 'b=2', '--cfg-options', 'b=3', 'c=4') == dict(
        a=1, b=3, c=4)
    assert parse() == {}


@pytest.mark.parametrize('word, message', [
    ('lr', "'lr' is not of the form KEY=VALUE"),
    ('=3', 'not of the form KEY=VALUE'),
    ('a=[1,(2,3]', "']' closes no bracket"),
    ('a=[1,2', "'[' is not closed"),
    ('data.train.pipeline[2].img_scale=3',
     'by its number after a point: data.train.pipeline.2.img_scale'),
    ('a[-1]=3', 'a.-1'),
])
def test_words_that_do_not_parse_are_answered(word, message, capsys):
    with pytest.raises(SystemExit):
        parse('--cfg-options', word)
    assert message in capsys.readouterr().err


def test_blanks_around_the_sign_are_taken_off_or_told(capsys):
    assert parse('--cfg-options', 'lr = 0.1') == dict(lr=.1)
    with pytest.raises(SystemExit):
        parse('--cfg-options', 'lr', '=', '0.1')
    assert 'KEY=VALUE (without blanks around the =)' in capsys.readouterr().err


# --- writing


def test_pretty_text_reads_like_a_config():
    config = Config(
        dict(model=dict(type='A', heads=[dict(type='B', x=(1, 2))]), lr=0.1, w=[('train', 1)]))
    assert config.pretty_text == ("model = dict(type='A', heads=[dict(type='B', x=(1, 2))])\n"
                                  "lr = 0.1\nw = [('train', 1)]\n")


def test_long_values_are_wrapped():
    text = Config(dict(model=dict(type='Long' * 8, backbone=dict(type='Long' *
                                                                 8, depth=50)))).pretty_text
    assert max(map(len, text.splitlines())) < 80


def test_a_value_that_no_file_can_hold_is_refused_with_its_path():
    with pytest.raises(ConfigError, match='model.x.1: no config file can hold <class'):
        Config(dict(model=dict(x=[1, Config]))).pretty_text


def test_dump_follows_the_extension(tmp_path):
    config = Config(dict(a=dict(b=(1, 2), c='text')), filename='x.yaml', cfg_text='')
    for name in ('a.py', 'a.yaml', 'a.yml', 'a.json'):
        assert config.dump(str(tmp_path / name)) is None
    assert Config.fromfile(tmp_path / 'a.py')._cfg_dict == config._cfg_dict
    assert Config.fromfile(tmp_path / 'a.yaml')._cfg_dict == config._cfg_dict
    assert Config.fromfile(tmp_path / 'a.json').a.b == [1, 2]
    assert json.loads((tmp_path / 'a.json').read_text()) == dict(a=dict(b=[1, 2], c='text'))
    assert yaml.safe_load(config.dump().replace('!!python/tuple',
                                                '')) == dict(a=dict(b=[1, 2], c='text'))
    assert Config(dict(a=1)).dump() == 'a = 1\n'
    with pytest.raises(OSError):
        config.dump(str(tmp_path / 'a.txt'))


names = st.from_regex(
    r'[a-z][a-z0-9_]{0,5}', fullmatch=True).filter(
        lambda name: not keyword.iskeyword(name) and name not in ('text', 'filename'))
# whatever text: quotes, backslashes, line ends and variables of the config language included
texts = st.one_of(
    st.text(st.characters(exclude_categories=['Cs', 'Cc']), max_size=8),
    st.sampled_from([
        "it's", '"', '\\', 'a\nb', '{{ fileDirname }}', '{{{x}}}', '{{$HOME:}}', '{{ _base_.x }}',
        '1e3', '${x}', 'null', '- a', '#', ''
    ]))
leaves = st.one_of(st.none(), st.booleans(), st.integers(-10**6, 10**6), st.floats(allow_nan=False),
                   texts)
keys = st.one_of(names, st.sampled_from(['a.b', '(0, 1)', '3', 'class', 'a b', "it's"]))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12)
configs = st.dictionaries(names, trees, max_size=4)


@settings(max_examples=60, deadline=None)
@given(configs, st.sampled_from(['.py', '.yaml']))
def test_what_is_dumped_loads_again(values, extension):
    config = Config(values, filename=f'x{extension}', cfg_text='')
    again = Config.fromstring(config.dump(), extension)
    assert again._cfg_dict == config._cfg_dict == values


@settings(max_examples=60, deadline=None)
@given(configs)
def test_what_is_dumped_to_json_loads_with_lists_for_tuples(values):
    config = Config(values, filename='x.json', cfg_text='')
    assert Config.fromstring(config.dump(), '.json')._cfg_dict == json.loads(json.dumps(values))


def test_infinity_and_nan_survive(tmp_path):
    config = Config(dict(x=math.inf, y=-math.inf, z=math.nan))
    config.dump(tmp_path / 'a.py')
    again = Config.fromfile(tmp_path / 'a.py')
    assert again.x == math.inf and again.y == -math.inf and math.isnan(again.z)


dicts = st.recursive(
    st.dictionaries(names, st.integers(), max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(inner, st.integers()), max_size=3),
    max_leaves=8)


def over(child, base):
    """The rule of merging in its plainest form; None where it does not allow it."""
    result = dict(base)
    for key, value in child.items():
        if key in base and isinstance(value, dict):
            if not isinstance(base[key], dict):
                return None
            value = over(value, base[key])
            if value is None:
                return None
        result[key] = value
    return result


@settings(max_examples=150, deadline=None)
@given(dicts, dicts)
def test_merging_is_the_plain_rule_and_changes_neither_side(base, child):
    before = copy.deepcopy((base, child))
    config = Config(base)
    expected = over(child, base)
    if expected is None:
        with pytest.raises(ConfigTypeError):
            config.merge_from_dict(child)
    else:
        config.merge_from_dict(child)
        assert config._cfg_dict == expected
        config.merge_from_dict(child)
        assert config._cfg_dict == expected  # once is enough
    assert (base, child) == before


def paths(tree, prefix=''):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from paths(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


@settings(max_examples=100, deadline=None)
@given(dicts)
def test_dotted_options_rebuild_any_tree(tree):
    assert merged({}, dict(paths(tree))) == tree


# --- references and data roots


def test_references_take_the_value_or_its_text():
    config = replace_cfg_vals(
        Config(
            dict(
                root='data/',
                model=dict(neck=dict(num=5), heads=[dict(x=1)]),
                a='${root}train/${model.neck.num}',
                b=['${model.neck}', ('${model.heads.0.x}', )],
                c='${a}!',
                d='$x {y} ${}'),
            filename='x.py',
            cfg_text='text'))
    assert config.a == 'data/train/5' and config.c == 'data/train/5!'
    assert config.b == [dict(num=5), (1, )] and config.b[0].num == 5
    assert config.d == '$x {y} ${}'
    assert (config.filename, config.text) == ('x.py', 'text')


def test_a_model_wrapper_takes_the_place_of_the_model():
    config = replace_cfg_vals(
        Config(dict(model=dict(type='A'), model_wrapper=dict(type='W', model='${model}'))))
    assert config.model == dict(type='W', model=dict(type='A')) and 'model_wrapper' not in config


@pytest.mark.parametrize('values, message', [
    (dict(data_root='x',
          a='${dataroot}/y'), r"'\$\{dataroot\}/y' names no value: there is no 'dataroot'; "
     "did you mean 'data_root'"),
    (dict(a='${b}', b='x${a}'), 'references lead back to themselves: b -> a'),
    (dict(a=dict(b=1), c='x${a}'), 'has a dict inside a string'),
])
def test_references_to_nothing_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        replace_cfg_vals(Config(values))


def test_the_data_root_comes_from_the_environment(monkeypatch):
    values = dict(
        data_root='data/coco/',
        data=dict(
            train=dict(dataset=dict(ann_file=['data/coco/a.json', 'data/coco/b.json'], times=2)),
            val=dict(img_prefix='data/coco/val/', other='data/voc/')))
    config = Config(values)
    monkeypatch.delenv('MMDET_DATASETS', raising=False)
    update_data_root(config)
    assert config._cfg_dict == values
    monkeypatch.setenv('MMDET_DATASETS', '/big/coco')
    update_data_root(config)
    assert config.data_root == '/big/coco/'
    assert config.data.train.dataset == dict(
        ann_file=['/big/coco/a.json', '/big/coco/b.json'], times=2)
    assert config.data.val == dict(img_prefix='/big/coco/val/', other='data/voc/')
    update_data_root(Config(dict(model=1)))  # nothing to do


def test_load_config_puts_options_last(tmp_path, monkeypatch):
    monkeypatch.setenv('MMDET_DATASETS', '/big')
    path = tmp_path / 'a.py'
    path.write_text("data_root = 'data'\ndata = dict(x='${data_root}/y', z=1)")
    config = load_config(path, {'data.z': 2})
    assert config.data == dict(x='/big/y', z=2)


# --- custom imports


def test_custom_imports_wait_until_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', sys.path[:])
    (tmp_path / 'my_part_of_config_test.py').write_text('VALUE = 3')
    (tmp_path / 'a.py').write_text("custom_imports = dict(imports=['my_part_of_config_test'])")
    config = Config.fromfile('a.py')
    assert 'my_part_of_config_test' not in sys.modules
    assert [module.VALUE for module in import_custom_modules(config)] == [3]
    assert import_custom_modules(Config()) == []
    del sys.modules['my_part_of_config_test']
    Config.fromfile('a.py', import_custom_modules=True)
    assert 'my_part_of_config_test' in sys.modules


def test_a_custom_import_that_fails_is_named_or_allowed():
    broken = dict(imports='no_such_module.x')
    with pytest.raises(
            ImportError,
            match="cannot import 'no_such_module.x' from .*: No module named 'no_such_module'"):
        import_custom_modules(Config(dict(custom_imports=broken)))
    with pytest.warns(UserWarning, match='no_such_module'):
        assert import_custom_modules(
            Config(dict(custom_imports=dict(broken, allow_failed_imports=True)))) == []


@pytest.mark.parametrize('value', [['a'], dict(imports=[3]), dict(import_=['a']), 3])
def test_custom_imports_of_another_form_are_refused(value):
    with pytest.raises(ConfigTypeError, match=r"write custom_imports=dict\(imports="):
        import_custom_modules(Config(dict(custom_imports=value)))


def test_config_errors_are_the_errors_that_v2_users_catch():
    with pytest.raises(KeyError) as caught:
        Config(dict(text=1))
    assert isinstance(caught.value, ConfigKeyError) and str(
        caught.value).startswith("'text' is reserved")
