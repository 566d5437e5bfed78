"""Whether files may be downloaded: not with --offline, nor where the environment variable MMDET_FT_OFFLINE is set."""
import os

VARIABLE = 'MMDET_FT_OFFLINE'
REASON = f'nothing is downloaded with --offline or {VARIABLE}=1'


def forbid_downloads() -> None:
    """Forbid downloads in this process, and in those that it starts."""
    os.environ[VARIABLE] = '1'


def is_offline() -> bool:
    """Check whether downloads are forbidden."""
    return os.environ.get(VARIABLE, '') not in ('', '0')
