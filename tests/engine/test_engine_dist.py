"""What two processes do together, over gloo."""
import copy
import os
import signal
import socket

import pytest
import torch
import torch.distributed as torch_dist
import torch.multiprocessing as mp

from mmdet_ft.datasets.loading.samplers import DistributedSampler
from mmdet_ft.engine.distributed import dist, launch
from mmdet_ft.engine.distributed.interruption import Interrupted
from mmdet_ft.engine.errors import NonFiniteError, UserError, command
from mmdet_ft.engine.evaluate import multi_gpu_test
from mmdet_ft.engine.hooks import CheckpointHook, DistEvalHook, Hook, TextLoggerHook
from mmdet_ft.engine.models.build import wrap
from mmdet_ft.engine.optimizers.optimizer import build_optimizer
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.runner import EpochBasedRunner
from mmdet_ft.structures import Losses
from tests.engine.fakes import FakeBatch, FakeDataset, FakeLoader, FakeModel


class RankLoader(FakeLoader):
    """Every second sample: V2's order, the last one repeated from the front."""

    def __init__(self, dataset, rank, views=False):
        super().__init__(dataset, 1 if views else 2, views)
        self.places = list(range(rank, len(dataset), 2))
        if len(self.places) < (len(dataset) + 1) // 2:
            self.places.append(0)

    def __len__(self):
        return -(-len(self.places) // self.batch_size)

    def __iter__(self):
        for start in range(0, len(self.places), self.batch_size):
            rows = self.places[start:start + self.batch_size]
            batch = FakeBatch(self.dataset.x[rows], self.dataset.y[rows],
                              [dict(filename=f'image{row}.png') for row in rows])
            yield (batch, ) if self.views else batch


class NanOnRankOne(FakeModel):
    """Its third loss is NaN, on rank 1 only."""
    calls = 0

    def loss(self, batch):
        losses = super().loss(batch)
        self.calls += self.training
        bad = self.calls == 3 and dist.get_dist_info()[0] == 1
        return Losses({**losses.terms, 'loss_bad': losses.total * (float('nan') if bad else 0)})


def make(model, work_dir, length=1, **arguments):
    torch.manual_seed(0)
    wrapped = wrap(model)
    optimizer = build_optimizer(wrapped, dict(type='SGD', lr=.1, momentum=.9))
    return EpochBasedRunner(
        wrapped, optimizer, work_dir=str(work_dir), max_epochs=length, **arguments)


def check_messages(rank, root):
    assert dist.get_dist_info() == (rank, 2)
    assert dist.gather_objects(rank * 10) == [0, 10]
    assert dist.broadcast_object(f'of {rank}') == 'of 0'
    assert len(set(dist.gather_objects(dist.sync_random_seed(None)))) == 1
    order = []
    assert dist.first_on_main(lambda: order.append(rank) or rank) == rank and order == [rank]
    with pytest.raises(UserError if rank else KeyError, match='no such file'):
        dist.first_on_main(lambda: {}['no such file'])


def check_results(rank, root):
    for size in (4, 5):
        part = [i % size for i in range(rank, size + size % 2, 2)]
        for gpu_collect in (False, True):
            found = dist.collect_results(part, size, os.path.join(root, 'parts'), gpu_collect)
            assert found == (list(range(size)) if rank == 0 else None)


def check_norm_buffers(rank, root):
    model = FakeModel()
    model.norm.running_mean.fill_(rank + 1)
    dist.broadcast_norm_buffers(model)
    assert model.norm.running_mean.tolist() == [1, 1, 1]


def check_evaluation(rank, root):
    """An odd number of samples is judged once, on rank 0, in the order of the data set."""
    dataset = FakeDataset(5)
    runner = make(FakeModel(), os.path.join(root, 'evaluation'))
    runner.register_hook(
        DistEvalHook(RankLoader(dataset, rank, views=True), save_best='auto'), 'LOW')
    runner.register_hook(TextLoggerHook(interval=2), 'VERY_LOW')
    runner.run([RankLoader(FakeDataset(8), rank)])
    hook = runner.hooks[0]
    if rank == 0:
        model = runner.model.module.eval()
        expected = [model(views)[0].item() for views in FakeLoader(dataset, 1, views=True)]
        assert hook.latest_results == pytest.approx(expected)
    else:
        assert hook.latest_results is None


def check_accumulation(rank, root):
    """A window of two on two ranks makes the step of one process that averages the four gradients."""
    dataset = FakeDataset(8)
    torch.manual_seed(
        0)  # the twin on each rank begins as the model on rank 0, which the others receive
    model = FakeModel()
    twin = copy.deepcopy(model)
    runner = make(model, os.path.join(root, 'accumulation'), update=Update(cumulative_iters=2))
    runner.run([RankLoader(dataset, rank)])
    batches = [batch for of_rank in (0, 1) for batch in RankLoader(dataset, of_rank)]
    optimizer = build_optimizer(twin, dict(type='SGD', lr=.1, momentum=.9))
    assert len(batches) == 4
    for batch in batches:
        (twin.loss(batch).total / 4).backward()
    optimizer.step()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, twin.get_parameter(name))


def check_bad_loss(rank, root):
    """One rank's NaN stops both, with the losses of that rank, the weights before it, and nothing saved since."""
    torch.manual_seed(0)
    work_dir = os.path.join(root, 'bad')
    runner = make(NanOnRankOne(), work_dir, length=3)
    runner.register_hook(CheckpointHook(interval=1))
    before = []

    class Watch(Hook):

        def after_train_iter(self, runner):
            before.append(runner.model.module.head.weight.detach().clone())

    runner.register_hook(Watch())
    with pytest.raises(NonFiniteError, match=r'rank 1: .*iteration 3 .*loss_bad nan') as error:
        runner.run([RankLoader(FakeDataset(8), rank)])
    assert torch.equal(before[2], before[1]) and torch.equal(before[3], before[1])
    assert len(set(dist.gather_objects(str(error.value)))) == 1
    weights = dist.gather_objects(runner.model.module.head.weight.detach())
    assert torch.equal(*weights)
    dist.barrier()
    assert sorted(name for name in os.listdir(work_dir)
                  if name.endswith('.pth')) == ['epoch_1.pth', 'latest.pth']


def check_fewer_samples_than_ranks(rank, root):
    """One sample for two ranks: both run it, and it counts once."""
    dataset = FakeDataset(1)
    loader = RankLoader(dataset, rank, views=True)
    results = multi_gpu_test(FakeModel(), loader, os.path.join(root, 'one'))
    assert results is None if rank else len(results) == 1


def check_gradients_travel_once_a_window(rank, root):
    """Four iterations in windows of two: the ranks talk about gradients twice."""
    runner = make(FakeModel(), os.path.join(root, 'window'), update=Update(cumulative_iters=2))
    calls = []

    def count(state, bucket):
        calls.append(runner.iter)
        return torch_dist.all_reduce(
            bucket.buffer().div_(2), async_op=True).get_future().then(lambda done: done.value()[0])

    runner.model.register_comm_hook(None, count)
    runner.run([RankLoader(FakeDataset(16), rank)])
    assert calls == [1, 3]


class HalfUsed(FakeModel):
    """A layer that takes part in the loss on rank 0 only."""

    def __init__(self):
        super().__init__()
        self.extra = torch.nn.Linear(4, 1)

    def loss(self, batch):
        losses = super().loss(batch)
        if dist.get_dist_info()[0] == 1:
            return losses
        return Losses({**losses.terms, 'loss_extra': self.extra(batch.x).mean()})


def check_unused_parameters(rank, root):
    """They are named on the rank that did not use them, before any rank could wait for ever."""
    model = wrap(HalfUsed(), find_unused_parameters=True)
    optimizer = build_optimizer(model, dict(type='SGD', lr=.1))
    runner = EpochBasedRunner(model, optimizer, work_dir=os.path.join(root, 'unused'), max_epochs=1)
    runner.run([RankLoader(FakeDataset(8), rank)])  # said so: it runs
    weights = dist.gather_objects(model.module.extra.weight.detach())
    assert torch.equal(*weights)

    model = HalfUsed(
    )  # without DistributedDataParallel's own waiting: what is looked at afterwards
    model.loss(next(iter(RankLoader(FakeDataset(8), rank)))).total.backward()
    wrapped = wrap(model)
    if rank == 0:
        dist.check_unused(wrapped)
    else:
        with pytest.raises(
                UserError,
                match=r'rank 1 does not depend on extra\.weight, extra\.bias, .*'
                r'find_unused_parameters = True'):
            dist.check_unused(wrapped)


def check_same(rank, root):
    dist.require_same((8, 4), 'images')
    with pytest.raises(
            UserError,
            match=r'images and batches differ between the processes \(rank 0: 8, rank 1: 9\)'):
        dist.require_same(8 + rank, 'images and batches')


CHECKS = (check_messages, check_same, check_results, check_norm_buffers, check_evaluation,
          check_fewer_samples_than_ranks, check_accumulation, check_gradients_travel_once_a_window,
          check_unused_parameters, check_bad_loss)


def _process(rank, port, root):
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE='2',
        LOCAL_RANK=str(rank),
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port))
    dist.init_dist('pytorch', backend='gloo')
    for check in CHECKS:
        try:
            check(rank, root)
        except BaseException as error:
            raise AssertionError(f'{check.__name__} on rank {rank}: {error!r}') from error
        dist.barrier()
    dist.shutdown()


def test_two_processes_agree(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    mp.spawn(_process, args=(port, str(tmp_path)), nprocs=2)


def test_a_launcher_without_its_environment_is_explained(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'SLURM_PROCID',
                 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    for launcher, word in (('pytorch', 'dist_train.sh'), ('slurm', 'slurm_train.sh'), ('mpi',
                                                                                       'mpirun')):
        with pytest.raises(UserError, match=word):
            dist.init_dist(launcher)
    with pytest.raises(UserError, match='lsf'):
        dist.init_dist('lsf')


def test_processes_of_torchrun_that_would_not_know_of_each_other_are_refused(monkeypatch):
    for name in ('TORCHELASTIC_RUN_ID', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    dist.require_alone()
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(UserError, match='torchrun has started 2 processes; add --launcher pytorch'):
        dist.require_alone()


@pytest.mark.parametrize('name, launcher', [('SLURM_NTASKS', 'slurm'), ('WORLD_SIZE', 'pytorch'),
                                            ('OMPI_COMM_WORLD_SIZE', 'mpi')])
def test_one_of_several_processes_without_a_launcher_is_warned(monkeypatch, caplog, name, launcher):
    for other in ('TORCHELASTIC_RUN_ID', 'WORLD_SIZE', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE'):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setattr(dist.logger, 'propagate', True)
    dist.require_alone()
    assert not caplog.text
    monkeypatch.setenv(name, '8')
    dist.require_alone()
    assert f'{name}=8: this process works alone' in caplog.text
    assert f'--launcher {launcher}' in caplog.text


def test_slurm_without_scontrol_takes_what_the_environment_tells(monkeypatch):

    def missing(*args, **options):
        raise FileNotFoundError(2, 'No such file or directory', 'scontrol')

    monkeypatch.setattr(dist.subprocess, 'check_output', missing)
    for name, value in dict(
            SLURM_PROCID='1',
            SLURM_NTASKS='4',
            SLURM_NODELIST='node[1-2]',
            RANK='',
            WORLD_SIZE='',
            LOCAL_RANK='',
            MASTER_PORT='29500',
            MASTER_ADDR='10.0.0.7').items():
        monkeypatch.setenv(name, value)
    dist._slurm_environment(None)
    assert [dist.os.environ[name]
            for name in ('MASTER_ADDR', 'RANK', 'WORLD_SIZE')] == ['10.0.0.7', '1', '4']
    monkeypatch.setenv('MASTER_ADDR', '')
    monkeypatch.setenv('SLURM_LAUNCH_NODE_IPADDR', '10.0.0.8')
    dist._slurm_environment(None)
    assert dist.os.environ['MASTER_ADDR'] == '10.0.0.8'
    monkeypatch.delenv('SLURM_LAUNCH_NODE_IPADDR')
    assert dist._first_host_of_slurm('alpha,beta[3-4]') == 'alpha'
    with pytest.raises(UserError, match="no scontrol here; set MASTER_ADDR"):
        dist._first_host_of_slurm('node[1-2]')


WORDS = [
    '--nnodes={nodes}', '--node_rank={rank}', '--master_addr=127.0.0.1', '--master_port={port}',
    '--nproc_per_node={gpus}', '--max_restarts=0', 'tools/train.py', 'a.py', '--seed', '0'
]


def words(nodes=1, rank=0, port=29500, gpus=2):
    return [word.format(nodes=nodes, rank=rank, port=port, gpus=gpus) for word in WORDS]


def test_a_port_in_use_is_told_or_another_one_is_taken(monkeypatch, capsys):
    monkeypatch.delenv('PORT', raising=False)
    with socket.socket() as other_run:
        other_run.bind(('', 0))
        other_run.listen()
        port = other_run.getsockname()[1]
        taken = launch.check_torchrun_options(words(port=port))
        number = taken[3].partition('=')[2]
        assert taken[:3] + taken[4:] == words()[:3] + words()[4:] and int(number) != port
        said = capsys.readouterr().err
        assert f'port {port} is in use, most likely by another run: port {number} is used' in said
        monkeypatch.setenv('PORT', str(port))
        with pytest.raises(
                UserError, match=rf'port {port} is in use.*: PORT=\d+ tools/dist_train.sh'):
            launch.check_torchrun_options(words(port=port))
        with pytest.raises(UserError, match='on all machines the same'):
            launch.check_torchrun_options(words(port=port, nodes=2))
        assert launch.check_torchrun_options(words(port=port, nodes=2, rank=1)) == words(2, 1, port)
    assert launch.check_torchrun_options(words(port=port)) == words(port=port)  # it is free again


@pytest.mark.parametrize('given, message', [(dict(gpus=0), 'GPUS is the number of processes'),
                                            (dict(gpus=-1), "not '-1'"),
                                            (dict(gpus='abc'), "not 'abc'"),
                                            (dict(port=99999), 'PORT is a number up to 65535'),
                                            (dict(port='x'), "not 'x'")])
def test_numbers_that_cannot_be_are_refused_in_one_line(monkeypatch, capsys, given, message):
    monkeypatch.setattr(launch.sys, 'argv', ['launch', *words(**given)])
    monkeypatch.setattr(launch.signal, 'signal', lambda *args: None)
    assert launch.launch() == 2
    said = capsys.readouterr().err
    assert message in said and said.count('\n') == 1


def test_a_meeting_that_fails_is_told_in_one_line(monkeypatch, capsys):

    def fail():
        raise launch.DistError('The server socket has failed to listen\nmore')

    monkeypatch.setattr(launch.sys, 'argv', ['launch', *words(port=0)])
    monkeypatch.setattr(launch.signal, 'signal', lambda *args: None)
    monkeypatch.setattr(launch, 'main', fail)
    assert launch.launch() == 1
    assert 'the processes cannot connect: The server socket has failed to listen. ' in capsys.readouterr(
    ).err


def test_samplers_share_out_fewer_samples_than_ranks():
    for size, ranks in ((1, 4), (3, 4), (5, 4), (8, 4)):
        parts = [
            list(map(int, DistributedSampler(range(size), ranks, rank, shuffle=False)))
            for rank in range(ranks)
        ]
        assert len(set(map(len, parts))) == 1  # all take part in every collective call
        rows = [part[row] for row in range(len(parts[0])) for part in parts]
        assert rows[:size] == list(range(size))  # as collect_results puts them together


def test_one_process_needs_no_group(tmp_path):
    assert dist.get_dist_info() == (0, 1) and dist.gather_objects(3) == [
        3
    ] and dist.broadcast_object(3) == 3
    assert dist.collect_results([1, 2, 3], 2) == [1, 2]
    dist.barrier()


@pytest.mark.parametrize('has_saved, code', [(True, 75), (False, 143)])
def test_a_launch_that_is_ended_by_a_signal_has_the_exit_code_of_a_run_that_has_saved(
        monkeypatch, capsys, has_saved, code):

    @command
    def train():
        raise Interrupted('stopped by SIGTERM')

    def run():
        if has_saved:
            with pytest.raises(SystemExit) as ending:
                train()
            assert ending.value.code == 75
        raise launch.SignalException('', sigval=signal.SIGTERM)

    monkeypatch.setenv('MMDET_FT_INTERRUPTED', '')  # given back afterwards
    monkeypatch.setattr(launch.sys, 'argv', ['launch', *words(port=0)])
    monkeypatch.setattr(launch.signal, 'signal', lambda *args: None)
    monkeypatch.setattr(launch, 'main', run)
    assert launch.launch() == code
    assert 'ended by SIGTERM' in capsys.readouterr().err
    train_again = pytest.raises(SystemExit, train)  # the launcher and its folder are gone
    assert train_again.value.code == 75
