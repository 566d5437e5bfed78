import inspect
import json
import os
import queue
import threading
import time
import types

import pytest
import torch
import torch.distributed as torch_dist
from torch.utils.data import DataLoader

from mmdet_ft.datasets.loading import waiting
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.datasets.loading.waiting import Batches
from mmdet_ft.engine.distributed import watchdog
from mmdet_ft.engine.distributed.watchdog import RankStatus, Watchdog


class Slow:
    """A data set whose samples take `seconds`."""

    def __init__(self, *seconds):
        self.seconds = seconds

    def __len__(self):
        return len(self.seconds)

    def __getitem__(self, index):
        time.sleep(self.seconds[index])
        return index


class Watched(Watchdog):
    """Ends nothing, but remembers that it would have."""

    def __init__(self, store, rank=0, world_size=2, stall_timeout=.8, timeout=100.):
        self.ended, self.said = threading.Event(), []
        super().__init__(store, rank, world_size, stall_timeout, timeout, 'host:29500')
        self.beats = 10  # past the first steps

    def _end_process(self):
        self.ended.set()
        self.stop()

    def _print(self, text):
        self.said.append(text)


class Peer:
    """Rank 1 as the others hear of it."""

    def __init__(self, store, **place):
        self.store, self.place, self.silent = store, place, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        turn = 0
        while not self.silent.wait(.03):
            turn += 1
            usual = dict(
                turn=turn,
                beats=10,
                stage='step',
                stalled=0.,
                limit=.8,
                waits=True,
                line='x.py:1 in f',
                stack='')
            self.store.set('rank1', json.dumps(RankStatus(**{**usual, **self.place})))


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(watchdog, '_GRACE', .1)
    return torch_dist.HashStore()


def load(*seconds, beats=None):
    for _ in Batches(iter(DataLoader(Slow(*seconds), batch_size=1))):
        if beats is not None:
            beats.beats += 1


def test_a_loader_that_hangs_ends_the_run_and_is_named(store):
    peer = Peer(store, stalled=9.)
    watched = Watched(store)
    load(2.5)
    assert watched.ended.is_set()
    text, = watched.said
    assert 'rank 0 has been in its loader for' in text and 'rank 1 waits for the others at x.py:1' in text
    assert 'rank 0 (most recent call last)' in text and 'time.sleep' in text  # no workers: it is the main thread's
    assert 'stall_timeout = 0.8' in text
    peer.silent.set()


def test_batches_that_come_are_no_hang(store):
    peer = Peer(store, stalled=9.)
    watched = Watched(store)
    load(*[.2] * 10, beats=watched)
    watched.stop()
    assert not watched.ended.is_set() and not watched.said
    peer.silent.set()


def test_a_rank_that_evaluates_keeps_the_others_waiting(store):
    peer = Peer(store, stage='else', stalled=9., limit=100.)
    watched = Watched(store)
    load(1.5)
    watched.stop()
    assert not watched.ended.is_set() and not watched.said
    peer.silent.set()


def test_what_is_neither_loader_nor_step_may_take_the_whole_timeout(store):
    peer = Peer(store, stalled=9.)
    watched = Watched(store, timeout=1.5)
    time.sleep(.85)  # past the stall_timeout
    assert not watched.said
    assert watched.ended.wait(2.)
    assert 'timeout = 1.5 for all else' in watched.said[0]
    peer.silent.set()


def test_the_first_steps_may_take_the_whole_timeout(store):
    peer = Peer(store, stalled=9.)
    watched = Watched(store)
    watched.beats = 0

    @watchdog.step()
    def train_step():
        time.sleep(1.5)

    train_step()
    assert not watched.said
    watched.beats = 2
    train_step()
    assert watched.ended.is_set() and 'rank 0 stands at' in watched.said[0]
    peer.silent.set()


def test_a_rank_that_falls_silent_is_named(store):
    peer = Peer(store)
    watched = Watched(store)
    load(.3, beats=watched)
    peer.silent.set()
    load(3.)
    assert watched.ended.is_set()
    assert 'rank 1 has not been heard of for' in watched.said[0]
    assert 'host:29500' in watched.said[
        0]  # nobody else is heard: it may be this rank that is cut off


def test_who_waits_for_a_silent_rank_does_not_wait_the_whole_timeout(store):
    peer = Peer(store, stage='else', waits=False, limit=100., stalled=9.)
    watched = Watched(store, world_size=3)  # rank 2 never says a word
    index = watched._read_status
    watched._read_status = lambda: index()._replace(waits=True)  # in a barrier after an evaluation
    time.sleep(1.8)
    assert not watched.said  # rank 1 evaluates
    peer.place.update(waits=True)
    assert watched.ended.wait(3.) and 'rank 2 has not been heard of for' in watched.said[0]
    peer.silent.set()


def test_a_debugger_may_stop_a_rank(store):
    peer = Peer(store, stalled=9.)
    watched = Watched(store)
    inside = types.FunctionType(load.__code__.replace(co_filename='/lib/pdb.py'), globals())
    inside(1.5, beats=None)
    watched.stop()
    assert not watched.said
    peer.silent.set()


def test_only_the_first_failure_is_reported(store):
    ranks = [Watched(store, rank, 3) for rank in range(3)]
    ranks[2].report_first('the cause')
    ranks[0].report_first('a consequence')  # returns, for its process to end
    assert ranks[1].ended.wait(3.)  # it has no failure of its own: it ends all the same
    assert [watched.said for watched in ranks] == [[], [], ['the cause']]


def test_without_its_store_a_rank_speaks_for_itself(store, monkeypatch):
    watched = Watched(store)

    def away(*_):
        raise RuntimeError('broken pipe')

    watched.store = types.SimpleNamespace(set=away, check=away, get=away, compare_set=away)
    monkeypatch.setattr(watched.decided, 'wait', lambda seconds: False)
    watched.report_first('the cause')
    assert watched.said == ['the cause']
    watched.stop()


def test_one_process_reports_without_a_watchdog(capsys):
    watchdog.report('why\n')
    assert capsys.readouterr().err == 'why\n'


class Workers:
    """Samples say which process made them."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return os.getpid()


def test_the_worker_that_a_loader_waits_for_is_known_in_every_epoch(monkeypatch):
    """It rests on torch giving batches to its workers in turn, from the first one on."""
    loader = build_dataloader(Workers(), 1, 3, dist=False, shuffle=False, seed=0)
    loader.collate_fn.collate = list
    for _ in range(2):
        expected, made = [], []
        batches = iter(loader)
        wait = batches._wait
        batches._wait = lambda: expected.append(wait()) or expected[-1]
        made = [batch[0] for batch in batches]
        assert waiting.current is None and all(item.has_workers for item in expected)
        known = [(item.pid, pid) for item, pid in zip(expected, made) if item.pid]
        assert len(known) >= 7 and all(pid == own for pid, own in known)
    assert len(set(made)) == 3


def test_who_is_in_backward_or_in_a_collective_waits_for_others(store):
    watched = Watched(store)
    inside = []
    blocked = queue.SimpleQueue()
    leaf = torch.ones(1, requires_grad=True)
    leaf.register_hook(blocked.get)  # blocks without a frame of its own, as a reduction does

    def look():
        time.sleep(.2)
        inside.append(watched._read_status())
        blocked.put(None)

    thread = threading.Thread(target=look)
    thread.start()
    leaf.sum().backward()
    thread.join()
    watched.stop()
    assert inside[0].waits and inside[0].stage == 'else', inside
    assert inspect.getsourcefile(torch_dist.barrier).startswith(watchdog._waiting_folders())
    assert inspect.getsourcefile(torch_dist.all_reduce).startswith(watchdog._waiting_folders())
