import inspect

import pytest

from mmdet_ft.registry import MODELS, Registry, fixed_arguments


@pytest.fixture
def things():
    table = Registry('thing')

    @table.register_module()
    class Lamp:

        def __init__(self, watts: int, color: str = 'white'):
            if watts < 0:
                raise ValueError('watts must not be negative')
            self.watts, self.color = watts, color

    return table


def test_a_dict_is_built_by_its_type_and_defaults_fill_the_gaps(things):
    lamp = things.build(dict(type='Lamp', watts=5), watts=7, color='red')
    assert (lamp.watts, lamp.color) == (5, 'red')


def test_the_dict_stays_as_it_was(things):
    settings = dict(type='Lamp', watts=5)
    things.build(settings)
    assert settings == dict(type='Lamp', watts=5)


def test_what_is_built_already_passes_through(things):
    lamp = things.build(dict(type='Lamp', watts=5))
    assert things.build(lamp) is lamp and things.build(None) is None


def test_a_class_may_stand_for_its_name(things):
    assert things.build(dict(type=things.get('Lamp'), watts=1)).watts == 1


@pytest.mark.parametrize('typo', ['Lmap', 'lamp', 'Lampe'])
def test_an_unknown_type_is_answered_with_the_nearest(things, typo):
    with pytest.raises(KeyError, match="did you mean 'Lamp'"):
        things.build(dict(type=typo))


def test_an_error_inside_a_constructor_keeps_its_type_and_traceback(things):
    with pytest.raises(ValueError, match='watts must not be negative') as caught:
        things.build(dict(type='Lamp', watts=-1))
    assert caught.traceback[-1].name == '__init__'


def test_a_name_is_taken_once_unless_forced(things):

    class Lamp:
        pass

    with pytest.raises(KeyError, match='force=True'):
        things.register_module(module=Lamp)
    things.register_module(module=Lamp, force=True)
    assert things.get('Lamp') is Lamp


def test_the_decorator_wants_its_parentheses(things):
    with pytest.raises(TypeError, match='parentheses'):

        @things.register_module
        class Desk:
            pass


def test_v2s_names_are_parts_of_one_table():
    from mmdet_ft.models import BACKBONES, DETECTORS, HEADS, LOSSES, NECKS
    assert BACKBONES is NECKS is HEADS is LOSSES is DETECTORS is MODELS
    assert {'ResNet', 'FPN', 'RPNHead', 'MaskRCNN', 'L1Loss'} <= set(MODELS)


def test_settled_arguments_leave_the_signature_and_are_refused():

    class Base:

        def __init__(self, height: int, width: int = 2, *, depth: int = 3):
            self.size = (height, width, depth)

    @fixed_arguments(width=7)
    class Wide(Base):
        pass

    assert list(inspect.signature(Wide).parameters) == ['height', 'depth']
    assert Wide(1).size == (1, 7, 3) and Wide(height=1, depth=5).size == (1, 7, 5)
    with pytest.raises(TypeError, match='Wide settles width itself'):
        Wide(1, width=3)
    with pytest.raises(TypeError):
        Wide(1, hieght=3)


def test_every_shipped_model_type_names_its_arguments():
    for name, kind in MODELS.module_dict.items():
        if not kind.__module__.startswith('mmdet_ft.'):
            continue
        kinds = {parameter.kind for parameter in inspect.signature(kind).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}, name


def test_a_class_knows_the_names_that_select_it(things):
    lamp = things.get('Lamp')

    class Torch:
        pass

    class Unknown:
        pass

    things.register_module('Lamp', module=Torch, when='battery')
    things.register_module(['Bulb', 'Light'], module=lamp)
    assert things.names_of(lamp) == ['Lamp', 'Bulb', 'Light'] and things.name_of(lamp) == 'Lamp'
    assert things.names_of(Torch) == ['Lamp'] and things.name_of(Torch) == 'Lamp'
    assert things.names_of(Unknown) == [] and things.name_of(Unknown) == 'Unknown'
