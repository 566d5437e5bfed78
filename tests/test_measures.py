"""The limits of the measures that measures.py prints."""
import pytest

from tests.measures import frames_to_a_loss, measures

MOST = {
    'median length': 8,
    'p90 length': 26,
    'longest': 110,
    'over 50 lines': 30,
    'files in circles of imports': 0,
    'rooms of the engine in circles of imports': 0,
    'imports that point upwards': 0,
    'parameters that are Any %': 3,
    'docstrings that begin with What, Of and the like %': 1,
    'docstrings with struck words': 0,
    'messages with struck words': 0,
}


@pytest.fixture(scope='module')
def measured():
    return measures()


@pytest.mark.parametrize('name', MOST)
def test_a_measure_stays_below_its_limit(measured, name):
    assert measured[name] <= MOST[name], f'{name}: {measured[name]:.1f}; python tests/measures.py'


def test_signatures_are_typed(measured):
    assert measured['typed signatures %'] >= 97


def test_few_frames_lead_from_main_to_a_loss():
    frames = frames_to_a_loss()
    assert set(frames) == {'loss_rpn_cls', 'loss_cls', 'loss_mask'}
    assert max(map(len, frames.values())) <= 10, frames
