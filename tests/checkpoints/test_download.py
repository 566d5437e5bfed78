"""Downloads from a server on this machine that misbehaves in every way."""
import contextlib
import hashlib
import http.server
import io
import multiprocessing
import os
import socket
import sys
import threading
import time

import pytest
import torch

from mmdet_ft import offline
from mmdet_ft.checkpoints import download
from mmdet_ft.checkpoints.download import cache_path, fetch, hash_of
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.checkpoints.sources import first_available


def weights(size=300_000):
    stream = io.BytesIO()
    torch.save(dict(a=torch.rand(size // 4, generator=torch.Generator().manual_seed(0))), stream)
    return stream.getvalue()


class Server:
    """Serves `content` at any path in the way that the path's first part asks for; counts and keeps
    the requests."""

    def __init__(self):
        self.content, self.etag = weights(), '"one"'
        self.requests = []
        self.healthy = False  # answers every path properly
        self.sent = 0  # bytes of content
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *args):
                pass

            def do_GET(self):
                owner.requests.append((self.path, dict(self.headers)))
                how = 'well' if owner.healthy else self.path.split('/')[1]
                with contextlib.suppress(ConnectionError):
                    getattr(owner, f'answer_{how}')(self)

        self.web = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.web.daemon_threads = True
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        self.url = f'http://127.0.0.1:{self.web.server_port}'

    def head(self, handler, code, length, **headers):
        handler.send_response(code)
        if length is not None:
            handler.send_header('Content-Length', str(length))
        for name, value in headers.items():
            if value is None:
                continue
            handler.send_header(name.replace('_', '-'), value)
        handler.end_headers()

    def write(self, handler, data):
        handler.wfile.write(data)
        handler.wfile.flush()
        self.sent += len(data)

    def answer_well(self, handler, upto=None, ranges=True):
        start, asked = 0, handler.headers.get('Range')
        if asked and ranges and handler.headers.get('If-Range', self.etag) == self.etag:
            start = int(asked[len('bytes='):-1])
            if start >= len(self.content):
                return self.head(handler, 416, 0, Content_Range=f'bytes */{len(self.content)}')
            about = dict(Content_Range=f'bytes {start}-{len(self.content) - 1}/{len(self.content)}')
        else:
            about = {}
        self.head(
            handler, 206 if about else 200, len(self.content) - start, ETag=self.etag, **about)
        self.write(handler, self.content[start:None if upto is None else start + upto])
        return start

    def answer_cut(self, handler):
        self.answer_well(handler, upto=100_000)
        handler.close_connection = True

    def answer_stall(self, handler):
        self.answer_well(handler, upto=100_000)
        time.sleep(2)

    def answer_silent(self, handler):
        time.sleep(2)

    def answer_noranges(self, handler):
        self.answer_well(handler, ranges=False)

    def answer_lame(self, handler):
        """Hangs up in the middle, and knows no ranges: trying again does not help."""
        self.answer_well(handler, upto=50_000, ranges=False)
        handler.close_connection = True

    def answer_absent(self, handler):
        handler.send_error(404)

    def answer_sick(self, handler):
        handler.send_error(500)

    def answer_slow(self, handler):
        time.sleep(.5)
        self.answer_well(handler)

    def answer_page(self, handler):
        page = b'<!DOCTYPE html><html>Please log in</html>'
        self.head(handler, 200, len(page), Content_Type='text/html; charset=utf-8')
        handler.wfile.write(page)

    def answer_hiddenpage(self, handler):
        page = b'\n <html>Please log in</html>'
        self.head(handler, 200, len(page), Content_Type='application/octet-stream')
        handler.wfile.write(page)

    def answer_unsized(self, handler):
        self.head(handler, 200, None, Connection='close')
        self.write(handler, self.content)
        handler.close_connection = True


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(download, 'PAUSE_SECONDS', .01)
    monkeypatch.setattr(download, 'STALL_SECONDS', 30)
    server = Server()
    yield server
    server.web.shutdown()
    server.web.server_close()


def cached(tmp_path):
    """All files of the cache."""
    return sorted(path.name for path in (tmp_path / 'torch').rglob('*') if path.is_file())


def failure_of(url):
    with pytest.raises(CheckpointError) as error:
        fetch(url)
    text = str(error.value)
    assert text.startswith(f'cannot download {url}: ') and cache_path(url) in text
    return text


def test_a_url_is_fetched_once_and_nothing_else_stays(tmp_path, server):
    url = f'{server.url}/well/a.pth'
    assert read(url).state_dict['a'].shape == (75_000, )
    assert read(url).source == url
    assert len(server.requests) == 1 and cached(tmp_path) == ['a.pth']


@pytest.mark.parametrize('how,cause,left', [
    ('absent', 'the server answered 404 Not Found', []),
    ('sick', 'the server answered 500 Internal Server Error', []),
    ('page', 'a web page (html) instead of weights', []),
    ('hiddenpage', 'a web page (html) instead of weights', []),
    ('silent', 'the server sent nothing for 0.5 s', []),
    ('stall', None, ['a.pth']),
    ('cut', None, ['a.pth']),
    ('noranges', None, ['a.pth']),
    ('unsized', None, ['a.pth']),
    ('lame', 'the server hung up after 0.1 MB of 0.3 MB; 0.1 MB are kept', ['a.pth.lock', 'a.pth.partial']),
])  # yapf: disable
def test_each_misbehaviour_has_its_message_and_does_not_poison_the_cache(
        tmp_path, server, monkeypatch, how, cause, left):
    if how in ('stall', 'silent'):
        monkeypatch.setattr(download, 'STALL_SECONDS', .5)
    url = f'{server.url}/{how}/a.pth'
    if cause is None:  # overcome by going on within one call
        fetch(url)
    else:
        assert cause in failure_of(url)
    assert cached(tmp_path) == left
    server.healthy = True
    with open(fetch(url), 'rb') as file:
        assert file.read() == server.content
    assert cached(tmp_path) == ['a.pth']


@pytest.mark.parametrize('how', ['cut', 'stall'])
def test_a_second_try_brings_only_what_is_missing(tmp_path, server, monkeypatch, how):
    monkeypatch.setattr(download, 'ATTEMPTS', 1)
    if how == 'stall':
        monkeypatch.setattr(download, 'STALL_SECONDS', .5)
    url = f'{server.url}/{how}/a.pth'
    assert '0.1 MB are kept, and the next try resumes from there' in failure_of(url)
    server.healthy = True
    fetch(url)
    assert server.requests[-1][1]['Range'] == 'bytes=100000-'
    assert server.sent == len(server.content)


def test_a_hash_in_the_name_is_enough_to_go_on_by(tmp_path, server, monkeypatch):
    """Neither ETag nor Last-Modified, and another mirror: the hash tells whether the parts fit."""
    monkeypatch.setattr(download, 'ATTEMPTS', 1)
    server.etag = None
    name = f'a-{hashlib.sha256(server.content).hexdigest()[:8]}.pth'
    failure_of(f'{server.url}/cut/{name}')
    server.healthy = True
    fetch(f'{server.url}/mirror/{name}')
    assert 'If-Range' not in server.requests[-1][1] and server.sent == len(server.content)
    # Parts that do not fit are found out, and the next try begins anew.
    os.remove(cache_path(f'{server.url}/{name}'))
    server.healthy = False
    failure_of(f'{server.url}/cut/{name}')
    partial = f'{cache_path(server.url + "/" + name)}.partial'
    with open(partial, 'r+b') as file:
        file.write(b'xxxx')
    server.healthy = True
    assert 'its sha256 begins with' in failure_of(f'{server.url}/mirror/{name}')
    fetch(f'{server.url}/mirror/{name}')
    assert cached(tmp_path) == [name]


def test_a_file_that_has_changed_meanwhile_is_begun_anew(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, 'ATTEMPTS', 1)
    url = f'{server.url}/cut/a.pth'
    failure_of(url)
    server.healthy, server.etag, server.content = True, '"two"', weights(400_000)
    with open(fetch(url), 'rb') as file:
        assert file.read() == server.content


def test_a_download_that_was_whole_but_not_yet_named_is_not_fetched_again(
        tmp_path, server, monkeypatch):
    url = f'{server.url}/well/a.pth'
    monkeypatch.setattr(download.os, 'replace', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch(url)
    monkeypatch.undo()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    fetch(url)
    assert server.sent == len(server.content) and cached(tmp_path) == ['a.pth']


def test_offline_only_the_cache_is_read(tmp_path, server, monkeypatch):
    url = f'{server.url}/well/a.pth'
    monkeypatch.setenv(offline.VARIABLE, '1')
    assert 'nothing is downloaded with --offline or MMDET_FT_OFFLINE=1' in failure_of(url)
    assert not server.requests and not cached(tmp_path)
    monkeypatch.setenv(offline.VARIABLE, '0')
    path = fetch(url)
    monkeypatch.setenv(offline.VARIABLE, '1')
    assert fetch(url) == path and len(server.requests) == 1


def test_a_wrong_hash_leaves_nothing(tmp_path, server):
    text = failure_of(f'{server.url}/well/a-00000000.pth')
    assert f'its sha256 begins with {hashlib.sha256(server.content).hexdigest()[:8]}, not with 00000000' in text
    assert cached(tmp_path) == [] and len(server.requests) == 1


def test_a_right_hash_is_kept_under_the_name_that_torchvision_gives(tmp_path, server):
    digest = hashlib.sha256(server.content).hexdigest()
    path = fetch(f'{server.url}/well/a-{digest[:8]}.pth')
    assert path == str(tmp_path / 'torch/hub/checkpoints' / f'a-{digest[:8]}.pth')


def test_only_the_digits_of_a_hash_are_taken_for_one():
    assert hash_of('resnet50-0676ba61.pth') == '0676ba61' == hash_of('a-0676ba61.pth.tar')
    assert hash_of('mask_rcnn_coco-20200505.pth') is None and hash_of('model_final.pkl') is None


def test_two_sites_files_of_one_name_are_two_files():
    paths = {cache_path(f'https://{site}/latest.pth') for site in ('a.org', 'b.org')}
    assert len(paths) == 2 and {os.path.basename(path) for path in paths} == {'latest.pth'}
    for strange in ('https://a.org/', 'https://a.org/..', 'https://a.org/x%2F..%2F..'):
        assert os.path.basename(cache_path(strange)) == 'weights'


def test_a_copy_made_by_hand_is_found(tmp_path, server):
    url = f'{server.url}/absent/a.pth'
    path = cache_path(url)
    assert path in failure_of(url)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
        file.write(server.content)
    assert fetch(url) == path


def test_a_server_that_is_not_there_is_named(server):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    assert 'refused' in failure_of(f'http://127.0.0.1:{port}/a.pth')
    with pytest.raises(CheckpointError, match='Invalid'):
        fetch('http://[/a.pth')


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path, server, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'file'))
    assert 'TORCH_HOME' in failure_of(f'{server.url}/well/a.pth')


def test_a_full_disk_is_told_before(server, monkeypatch):
    monkeypatch.setattr(download.shutil, 'disk_usage', lambda _: type('', (), dict(free=1000)))
    assert 'it needs 0.3 MB, more than is free in' in failure_of(f'{server.url}/well/a.pth')


def test_alternatives_are_tried_in_order_and_each_failure_is_told(tmp_path, server, caplog):
    urls = [f'{server.url}/absent/a.pth', str(tmp_path / 'nowhere.pth'), f'{server.url}/well/a.pth']
    with caplog.at_level('WARNING', 'mmdet_ft'):
        assert first_available(urls) == (urls[2], cache_path(urls[2]))
    assert [record.getMessage().rpartition('Next: ')[2] for record in caplog.records] == urls[1:]
    with pytest.raises(CheckpointError) as error:
        first_available(urls[:2])
    assert '404' in str(error.value) and 'nowhere.pth does not exist' in str(error.value)


def run(url, results):
    results.put(fetch(url))


def test_eight_processes_at_once_download_once(tmp_path, server):
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    url = f'{server.url}/slow/a.pth'
    processes = [context.Process(target=run, args=(url, results)) for _ in range(8)]
    for process in processes:
        process.start()
    assert {results.get(timeout=60) for _ in processes} == {cache_path(url)}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(server.requests) == 1 and cached(tmp_path) == ['a.pth']


def test_a_process_that_is_killed_leaves_no_lock_and_what_it_had(tmp_path, server):
    context = multiprocessing.get_context('fork')
    url = f'{server.url}/stall/a.pth'
    process = context.Process(target=run, args=(url, context.Queue()))
    process.start()
    partial = f'{cache_path(url)}.partial'
    while not os.path.exists(partial) or os.path.getsize(partial) == 0:
        time.sleep(.01)
    process.kill()
    process.join()
    before = server.sent
    server.healthy = True
    fetch(url)
    assert server.sent - before < len(server.content) and cached(tmp_path) == ['a.pth']


def test_a_disk_without_locks_still_gets_the_file(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, 'fcntl', None)
    fetch(f'{server.url}/well/a.pth')
    assert cached(tmp_path) == ['a.pth']


@pytest.mark.parametrize('terminal', [True, False])
def test_a_bar_for_a_person_and_a_line_for_a_log(server, monkeypatch, capsys, caplog, terminal):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: terminal, raising=False)
    with caplog.at_level('INFO', 'mmdet_ft'):
        fetch(f'{server.url}/well/a.pth')
    assert [record.getMessage()
            for record in caplog.records] == [f'downloading {server.url}/well/a.pth (0.3 MB)']
    # A logger that another test has set up repeats the line of the log there.
    shown = [
        line for line in capsys.readouterr().err.splitlines() if 'INFO - downloading' not in line
    ]
    assert bool(shown) == terminal
