"""A run refuses to write over the weights that it begins from, and nothing else."""
import pytest

from mmdet_ft.config import Config
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.run_check.overwriting import refuse_overwriting
from mmdet_ft.engine.settings.read import read_run_settings


def config_of(folder, load_from, **others):
    settings = dict(
        work_dir=str(folder),
        load_from=load_from,
        runner=dict(type='EpochBasedRunner', max_epochs=4),
        checkpoint_config=dict(interval=2),
        evaluation=dict(save_best='bbox_mAP'),
        data=dict(val=dict(type='CocoDataset')))
    return Config({**settings, **others})


def refused(folder, load_from, **others):
    cfg = config_of(folder, load_from, **others)
    try:
        refuse_overwriting(read_run_settings(cfg), cfg.work_dir)
    except UserError as error:
        return str(error)
    return ''


@pytest.mark.parametrize('name, others, words', [
    ('epoch_2.pth', {}, 'writes a checkpoint of its own as epoch_2.pth there'),
    ('epoch_4.pth', dict(checkpoint_config=dict(interval=3)), 'as epoch_4.pth'),  # the last
    ('epoch_3.pth', {}, ''),  # no multiple of the interval
    ('epoch_3.pth', dict(early_stop=dict(monitor='bbox_mAP')), 'as epoch_3.pth'),
    ('epoch_6.pth', {}, ''),  # beyond the run
    ('iter_2.pth', {}, ''),
    ('iter_2.pth', dict(checkpoint_config=dict(interval=2, by_epoch=False)), 'as iter_2.pth'),
    ('epoch_2.pth', dict(checkpoint_config=None), ''),
    ('mine_2.pth', dict(checkpoint_config=dict(interval=1, filename_tmpl='mine_{}.pth')), 'as mine_2.pth'),
    ('latest.pth', {}, 'a latest.pth of its own'),
    ('interrupted.pth', {}, 'a run that is stopped writes its interrupted.pth'),
    ('best_bbox_mAP_epoch_1.pth', {}, 'its best checkpoint as best_bbox_mAP_epoch_1.pth'),
    ('best_segm_mAP_epoch_1.pth', {}, ''),
    ('best_segm_mAP_epoch_1.pth', dict(evaluation=dict(save_best='auto')), 'its best checkpoint'),
    ('best_bbox_mAP_epoch_9.pth', {}, ''),
    ('best_bbox_mAP_epoch_1.pth', dict(data=dict(val=None)), ''),
    ('coco.pth', {}, ''),
    ('epoch_2.pth', dict(resume_from='x.pth'), ''),  # not read then
])  # yapf: disable
def test_weights_are_refused_exactly_where_the_run_could_write_over_them(
        tmp_path, name, others, words):
    (tmp_path / name).write_bytes(b'weights')
    text = refused(tmp_path, str(tmp_path / name), **others)
    assert words in text and bool(words) == bool(text)
    assert not text or 'to fix: name another folder with --work-dir' in text
    elsewhere = tmp_path / 'other'
    elsewhere.mkdir()
    assert refused(elsewhere, str(tmp_path / name), **others) == ''


def test_a_link_means_the_file_that_it_leads_to(tmp_path):
    (tmp_path / 'epoch_9.pth').write_bytes(b'weights')
    (tmp_path / 'latest.pth').symlink_to('epoch_9.pth')
    assert refused(tmp_path, str(tmp_path / 'latest.pth')) == ''  # the link goes, the file stays
    (tmp_path / 'epoch_9.pth').rename(tmp_path / 'epoch_2.pth')
    (tmp_path / 'last.pth').symlink_to('epoch_2.pth')
    assert 'as epoch_2.pth' in refused(
        tmp_path, dict(checkpoint=['https://x/y.pth', str(tmp_path / 'last.pth')]))


def test_a_folder_for_checkpoints_and_weights_of_the_model_are_looked_at_too(tmp_path):
    folder = tmp_path / 'disk' / 'run'
    folder.mkdir(parents=True)
    (folder / 'epoch_2.pth').write_bytes(b'weights')
    work_dir, saved = tmp_path / 'run', dict(interval=1, out_dir=str(tmp_path / 'disk'))
    assert refused(work_dir, str(folder / 'epoch_2.pth')) == ''
    assert 'as epoch_2.pth' in refused(
        work_dir, str(folder / 'epoch_2.pth'), checkpoint_config=saved)
    init_cfg = dict(type='Pretrained', checkpoint=str(folder / 'epoch_2.pth'))
    model = dict(type='MaskRCNN', backbone=dict(init_cfg=init_cfg))
    text = refused(work_dir, None, checkpoint_config=saved, model=model)
    assert text.startswith('model.backbone.init_cfg.checkpoint = ') and 'as epoch_2.pth' in text
