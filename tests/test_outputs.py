"""Outputs: never over an input, none twice under one name."""
import argparse
import os

import pytest

from mmdet_ft.outputs import Inputs, OutputError, PictureNames, add_drawing_options, name_below


@pytest.mark.parametrize('name, prefix, below', [
    ('a.png', '', 'a.png'),
    ('deep/a.png', 'data', 'deep/a.png'),
    ('/data/val/deep/a.png', '/data/val', 'deep/a.png'),
    ('/elsewhere/a.png', '/data/val', 'elsewhere/a.png'),
    ('../../other/a.png', 'data', 'other/a.png'),
    ('C:\\data\\a.png', None, 'data/a.png'),
    ('photo.jfif', None, 'photo.png'),
    ('photo.GIF', None, 'photo.png'),
    ('noending', None, 'noending.png'),
    ('t10k.gz#12', None, 't10k.gz#12.png'),
    ('a.JPG', None, 'a.JPG'),
    ('..', None, 'picture.png'),
])
def test_names_stay_below_the_folder_and_have_endings_that_can_be_written(name, prefix, below):
    assert name_below(name, prefix) == os.path.join(*below.split('/'))


@pytest.fixture
def data(tmp_path):
    (tmp_path / 'data').mkdir()
    for name in ('a.png', 'b.png'):
        (tmp_path / 'data' / name).write_text(name)
    return tmp_path / 'data'


def test_an_input_is_found_under_each_of_its_names(data, tmp_path):
    inputs = Inputs([data / 'a.png', None, tmp_path / 'nowhere'])
    (tmp_path / 'link').symlink_to(data)
    os.link(data / 'a.png', tmp_path / 'hard.png')
    for name in (data / 'a.png', tmp_path / 'link' / 'a.png', tmp_path / 'hard.png',
                 data / '..' / 'data' / 'a.png'):
        with pytest.raises(OutputError, match='would overwrite .*a.png, which this command reads'):
            inputs.require_free(name, '--out')
    inputs.require_free(data / 'b.png', '--out')
    inputs.require_free(tmp_path / 'new.png', '--out')


def test_no_picture_is_written_over_or_beside_the_images(data, tmp_path):
    images = [(str(data / name), name, str(data)) for name in ('a.png', 'b.png')]
    (tmp_path / 'link').symlink_to(data)
    for folder in (data, tmp_path / 'link'):
        with pytest.raises(OutputError, match='--show-dir .* choose another folder'):
            PictureNames(folder, Inputs(), '--show-dir').take_all(images)
    assert PictureNames(tmp_path / 'out', Inputs(), '--show-dir').take_all(images) == [
        str(tmp_path / 'out' / name) for name in ('a.png', 'b.png')
    ]


def test_equal_names_are_numbered_whatever_their_case(tmp_path):
    names = PictureNames(tmp_path, Inputs(), '--out')
    taken = [names.take(name) for name in ('a.png', 'a.png', 'A.PNG', 'a.gif', 'x/a.png')]
    assert [os.path.relpath(name, tmp_path) for name in taken
            ] == ['a.png', 'a_2.png', 'A_3.PNG', 'a_4.png',
                  os.path.join('x', 'a.png')]


def test_a_link_in_the_folder_of_outputs_does_not_lead_to_an_input(data, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'a.png').symlink_to(data / 'a.png')
    with pytest.raises(OutputError, match='would overwrite'):
        PictureNames(tmp_path / 'out', Inputs(),
                     '--out').take_all([(str(data / 'a.png'), 'a.png', None)])


def test_drawing_options_are_refused_by_name():
    parser = argparse.ArgumentParser()
    add_drawing_options(parser)
    assert parser.parse_args(['--labels', 'score', '--color-by', 'instance']).labels == 'score'
    with pytest.raises(SystemExit):
        parser.parse_args(['--labels', 'big'])


@pytest.mark.parametrize('name', ['a.png', 'a.png/deep/er'])
def test_a_folder_of_outputs_that_is_a_file_is_refused(data, name):
    with pytest.raises(OutputError, match='--out .*a.png is a file; name a folder'):
        PictureNames(data / name, Inputs(), '--out')


def test_a_folder_that_cannot_be_written_to_is_refused(data, monkeypatch):
    monkeypatch.setattr('os.access', lambda path, mode: not str(path).startswith(str(data)))
    with pytest.raises(OutputError, match=f'--out .*new: {data} cannot be written to'):
        PictureNames(data / 'new', Inputs(), '--out')
