"""Processes of a run: process groups, rendezvous and collectives."""
import logging
import os
import pickle
import re
import shutil
import subprocess
import tempfile
from datetime import timedelta
from typing import Any, Callable, List, Optional, Tuple, Union

import torch
import torch.distributed as torch_dist
from torch import nn

from mmdet_ft.engine.distributed import watchdog
from mmdet_ft.errors import UsageError, UserError
from mmdet_ft.processes import end_with_parent

logger = logging.getLogger('mmdet_ft')


def is_distributed() -> bool:
    return torch_dist.is_available() and torch_dist.is_initialized()


def get_dist_info() -> Tuple[int, int]:
    """Return (rank, world size); (0, 1) without a process group."""
    return (torch_dist.get_rank(), torch_dist.get_world_size()) if is_distributed() else (0, 1)


def local_rank() -> int:
    """Return the rank of this process on its machine, which is the index of its GPU."""
    return int(os.environ.get('LOCAL_RANK', 0))


def barrier() -> None:
    if is_distributed():
        torch_dist.barrier()


def require_alone() -> None:
    """Refuse to run as one of several torchrun processes without a process group: each would train
    alone, into the same files."""
    count = os.environ.get('WORLD_SIZE', '1')
    if 'TORCHELASTIC_RUN_ID' in os.environ and count != '1':
        raise UsageError(
            f'torchrun has started {count} processes; add --launcher pytorch, so that they work together'
        )
    # Not refused: a Slurm batch script has the number of its tasks too, and may still run one process.
    for name, launcher in (('SLURM_NTASKS', 'slurm'), ('OMPI_COMM_WORLD_SIZE', 'mpi'),
                           ('WORLD_SIZE', 'pytorch')):
        if os.environ.get(name, '1') not in ('', '1'):
            logger.warning(
                '%s=%s: this process works alone. If there are others, each does the same run and writes into the '
                'same work_dir; --launcher %s lets them work together', name, os.environ[name],
                launcher)
            return


def init_dist(launcher: str,
              backend: str = 'nccl',
              port: Optional[int] = None,
              timeout: Union[float, timedelta] = 1800,
              stall_timeout: float = watchdog.STALL_TIMEOUT,
              init_method: str = 'env://',
              **options: Any) -> None:
    """Join the process group that `launcher` prepared, and start the watchdog: `dist_params`.

    Args:
        launcher: V2's 'pytorch' (torchrun), 'slurm' or 'mpi'.
        backend: always gloo without a GPU, because NCCL needs GPUs.
        port: of rank 0, for 'slurm' and 'mpi'.
        timeout: seconds that ranks wait for each other, at the rendezvous or while rank 0 evaluates.
        stall_timeout: seconds after which the run ends because of a rank whose loader gives no batch,
            whose step does not end, or that sends nothing; 0 disables it. The first steps
            may take `timeout`.
        init_method: address of the rendezvous.
        options: further ones of torch.distributed.init_process_group.
    """
    environments = {
        'pytorch': _torchrun_environment,
        'slurm': _slurm_environment,
        'mpi': _mpi_environment
    }
    if launcher not in environments:
        raise UsageError(
            f'unknown launcher {launcher!r}; there are {", ".join(environments)} (or none)')
    environments[launcher](port)
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        end_with_parent()  # if torchrun itself is killed, nothing else would end this process
    if torch.cuda.is_available():
        num_gpus = torch.cuda.device_count()
        device = torch.device('cuda', local_rank() % num_gpus)
        torch.cuda.set_device(device)
        if backend == 'nccl':  # given here, NCCL need not guess it at the first barrier
            _require_gpus(num_gpus)
            options.setdefault('device_id', device)
    elif backend == 'nccl':
        backend = 'gloo'
    timeout = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    store, rank, world_size = _connect(init_method, timeout)
    torch_dist.init_process_group(
        backend=backend, timeout=timeout, store=store, rank=rank, world_size=world_size, **options)
    watchdog.start(
        _connect(init_method, timeout)[0], rank, world_size, stall_timeout, timeout.total_seconds(),
        f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}')


def _require_gpus(num_gpus: int) -> None:
    """Refuse two processes on one GPU before NCCL does, with a clearer message. (With launchers
    other than torchrun a process may see its own GPU only.)"""
    num_processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    if num_processes > num_gpus:
        raise UserError(
            f'{num_processes} processes on this machine, and it has {num_gpus} GPUs: start '
            f"{num_gpus}, or let them share with dist_params=dict(backend='gloo')")


def _connect(init_method: str, timeout: timedelta) -> Tuple[torch_dist.Store, int, int]:
    """Return a connection to the store of this attempt, rank and world size.

    torchrun keeps one store over its restarts. A prefix hides the entries of earlier processes,
    such as addresses on which nothing listens any more.
    """
    rank, world_size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    store, _, _ = next(torch_dist.rendezvous(init_method, rank, world_size, timeout=timeout))
    store.set_timeout(timeout)
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    return torch_dist.PrefixStore(f'mmdet_ft/{attempt}', store), rank, world_size


def shutdown() -> None:
    """Leave the process group, so that NCCL does not warn about it at exit."""
    watchdog.stop()
    if is_distributed():
        torch_dist.destroy_process_group()


def _require(names: Tuple[str, ...], launcher: str, remedy: str) -> None:
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UsageError(
            f'--launcher {launcher} needs {", ".join(missing)} in the environment; {remedy}')


def _torchrun_environment(port: Optional[int]) -> None:
    _require(('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'), 'pytorch',
             'start with tools/dist_train.sh CONFIG GPUS, or with torchrun')


def _slurm_environment(port: Optional[int]) -> None:
    _require(('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'), 'slurm',
             'start with tools/slurm_train.sh')
    rank = int(os.environ['SLURM_PROCID'])
    if port is not None:
        os.environ['MASTER_PORT'] = str(port)
    os.environ.setdefault('MASTER_PORT', '29500')
    if not os.environ.get('MASTER_ADDR'):
        os.environ['MASTER_ADDR'] = _first_host_of_slurm(os.environ['SLURM_NODELIST'])
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ['RANK'] = str(rank)
    gpus = max(torch.cuda.device_count(), 1)
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', str(rank % gpus))


def _first_host_of_slurm(nodes: str) -> str:
    """Return the host of rank 0, from scontrol, or without it (in a container) from the environment.

    Raises UserError if the environment does not give it.
    """
    try:
        hosts = subprocess.check_output(['scontrol', 'show', 'hostname', nodes],
                                        text=True,
                                        stderr=subprocess.DEVNULL).split()
        if hosts:
            return hosts[0]
    except (OSError, subprocess.CalledProcessError):
        pass
    if os.environ.get('SLURM_LAUNCH_NODE_IPADDR'):
        return os.environ['SLURM_LAUNCH_NODE_IPADDR']
    plain = re.match(r'[^\[\],]+(?=,|$)', nodes)
    if plain is None:
        raise UserError(
            f'--launcher slurm cannot find the first of the machines {nodes!r}: there is no scontrol here; set '
            f'MASTER_ADDR to the name of the first one')
    return plain[0]


def _mpi_environment(port: Optional[int]) -> None:
    _require(('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK',
              'MASTER_ADDR'), 'mpi', 'start with mpirun, with MASTER_ADDR set to the first host')
    os.environ.setdefault('MASTER_PORT', str(port or 29500))
    os.environ['RANK'] = os.environ['OMPI_COMM_WORLD_RANK']
    os.environ['WORLD_SIZE'] = os.environ['OMPI_COMM_WORLD_SIZE']
    os.environ['LOCAL_RANK'] = os.environ['OMPI_COMM_WORLD_LOCAL_RANK']


def gather_objects(value: object) -> List[Any]:
    """Return the values of all ranks, in the order of ranks, on every rank."""
    _, world_size = get_dist_info()
    if world_size == 1:
        return [value]
    values: List[Any] = [None] * world_size
    torch_dist.all_gather_object(values, value)
    return values


def require_same(value: object, what: str) -> None:
    """Raise UserError on every rank if the ranks differ in a value: they would deadlock."""
    values = gather_objects(value)
    if any(other != values[0] for other in values):
        held = ', '.join(f'rank {rank}: {value}' for rank, value in enumerate(values))
        raise UserError(
            f'{what} differ between the processes ({held}): give all machines the same files and the '
            'same config')


def broadcast_object(value: object) -> Any:
    """Return rank 0's value on every rank."""
    if get_dist_info()[1] == 1:
        return value
    box = [value]
    torch_dist.broadcast_object_list(box, src=0)
    return box[0]


def first_on_main(function: Callable[[], Any]) -> Any:
    """Run `function()` on rank 0 first, then on the others, which use what it has cached (a download).

    An error of rank 0 ends every rank with its message, instead of leaving the others waiting.
    """
    rank, world_size = get_dist_info()
    if world_size == 1:
        return function()
    error, result = None, None
    if rank == 0:
        try:
            result = function()
        except Exception as caught:
            error = caught
    text = broadcast_object(None if error is None else f'{type(error).__name__}: {error}')
    if error is not None:
        raise error
    if text is not None:
        raise UserError(f'rank 0 failed: {text}')
    return result if rank == 0 else function()


def sync_random_seed(seed: Optional[int]) -> int:
    """Return the given seed, or a random one sampled by rank 0 for all ranks."""
    if seed is not None:
        return seed
    return broadcast_object(int.from_bytes(os.urandom(4), 'little') >> 1)


def broadcast_norm_buffers(model: nn.Module) -> None:
    """Copy the running statistics of rank 0 to every rank, so that all evaluate the same model."""
    if get_dist_info()[1] == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            torch_dist.broadcast(module.running_mean, 0)
            torch_dist.broadcast(module.running_var, 0)


def check_unused(model: nn.Module) -> None:
    """Refuse after a backward pass, by name, parameters that took no part in the loss.

    DistributedDataParallel waits for the gradient of each one: on the other ranks forever, on this
    one until its next step fails. Raises UserError.
    """
    if not isinstance(model, nn.parallel.DistributedDataParallel) or model.find_unused_parameters:
        return
    unused = [
        name for name, parameter in model.module.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if unused:
        shown = ', '.join(unused[:5]) + (f', ... {len(unused)} in all' if len(unused) > 5 else '')
        raise UserError(
            f'the loss of rank {get_dist_info()[0]} does not depend on {shown}, and several '
            'processes wait for the gradient of every parameter. Set find_unused_parameters = True '
            'in the config, which costs a little time; or freeze the parameters that are not to be trained '
            '(requires_grad = False); or, if it is, add 0 * parameter.sum() to the loss where it '
            'is not used')


def collect_results(part: List[Any],
                    size: int,
                    tmpdir: Optional[str] = None,
                    gpu_collect: bool = False) -> Optional[List[Any]]:
    """Return the results of all ranks in the order of the dataset on rank 0; None elsewhere.

    Rank r of w holds samples r, r + w, r + 2w, ... of a dataset of `size`. The last ones may repeat
    the first to make the parts equal, and are dropped. Parts are exchanged by files in `tmpdir`
    (shared by the machines; by default .dist_test in the working directory), or with `gpu_collect`
    over the network.
    """
    rank, world_size = get_dist_info()
    if world_size == 1:
        return part[:size]
    if gpu_collect:
        parts = gather_objects(part)
    else:
        if rank == 0 and tmpdir is None:
            os.makedirs('.dist_test', exist_ok=True)
            tmpdir = tempfile.mkdtemp(dir='.dist_test')
        tmpdir = broadcast_object(tmpdir)
        os.makedirs(tmpdir, exist_ok=True)
        with open(os.path.join(tmpdir, f'part_{rank}.pkl'), 'wb') as file:
            pickle.dump(part, file)
        barrier()
        parts = []
        for index in range(world_size if rank == 0 else 0):
            # Pickle is needed for the results of a custom model; these processes have just written the file.
            with open(os.path.join(tmpdir, f'part_{index}.pkl'), 'rb') as file:
                parts.append(pickle.load(file))
        barrier()
        if rank == 0:
            shutil.rmtree(tmpdir)
    if rank != 0:
        return None
    ordered = [
        part[row] for row in range(max(map(len, parts))) for part in parts if row < len(part)
    ]
    return ordered[:size]
