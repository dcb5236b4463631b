"""A segment that cannot be used: the app boots and counts, one line says what is lost. And the command line."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest
from conftest import answers, environment, fetch, free_port, is_there, samples, wait_until
from prometheus_client import Counter

APP = """
import os
import promring
promring.install()
from prometheus_client import Counter
counter = Counter("c", "A counter.")
counter.inc(2)
if os.fork() == 0:
    counter.inc(3)
    os._exit(0)
os.wait()
print(promring._native.scrape()[1].decode())
"""
COMMAND = str(pathlib.Path(sys.executable).with_name("promring"))


def boots(segment, **env):
    """Run the app; return what it counted and its log lines."""
    done = subprocess.run(
        [sys.executable, "-c", APP], env=environment(segment, **env), capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return samples(done.stdout)["c_total", ()], done.stderr.splitlines()


def test_a_directory(tmp_path, segment):
    place = segment.parent / "dir.v1"
    for name in ("dir", "dir.v1", "dir.v2"):
        (segment.parent / name).mkdir()
    count, lines = boots(place.with_name("dir"))
    assert count == 5
    assert len(lines) == 1 and "dir" in lines[0] and "only this process and its forks share one /metrics" in lines[0]


def data_file(segment):
    """Return the file of a segment after an app has used it."""
    assert boots(segment) == (5, [])
    return next(path for path in segment.parent.glob(segment.name + ".v*") if "lock" not in path.name)


@pytest.mark.parametrize("damage", ["symlink", "random", "truncated", "empty"])
def test_a_file_that_is_not_a_segment(segment, damage):
    base = segment.with_name("damaged")
    data = data_file(base)
    if damage == "symlink":
        elsewhere = data.rename(data.with_name("elsewhere"))
        data.symlink_to(elsewhere)
    elif damage == "random":
        data.write_bytes(bytes(range(256)) * 4096)
    elif damage == "truncated":
        os.truncate(data, 4096)
    else:
        data.write_bytes(b"")
    before = data.read_bytes()
    count, lines = boots(base)
    assert count == 5
    if damage != "empty":  # as a crash at creation leaves it: made anew
        assert len(lines) == 1 and str(data) in lines[0], lines
        assert data.read_bytes() == before


if os.geteuid() == 0:  # nobody else can give a file away

    def test_a_file_of_somebody_else(segment):
        base = segment.with_name("theirs")
        data = data_file(base)
        os.chown(data, 65534, 65534)
        count, lines = boots(base)
        assert count == 5
        assert len(lines) == 1 and str(data) in lines[0]


def test_a_directory_that_is_not_there_and_cannot_be_made(segment):
    count, lines = boots("/proc/nowhere/segment")
    assert count == 5
    assert len(lines) == 1 and "/proc/nowhere" in lines[0]


def test_settings_that_cannot_be_used_are_said(segment):
    count, lines = boots(segment.with_name("other"), PROMRING_MAX_SERIES="many")
    assert count == 5
    assert len(lines) == 1 and 'PROMRING_MAX_SERIES="many" is not valid' in lines[0]


def test_the_segment_is_the_user_s_alone(segment):
    data = data_file(segment.with_name("private"))
    assert stat.S_IMODE(data.stat().st_mode) == 0o600


# ---------------------------------------------------------------------------------------------
# The command line


def command(*arguments, segment):
    """Run `promring` to its end."""
    return subprocess.run([COMMAND, *arguments], env=environment(segment), capture_output=True, text=True, cwd="/")


def test_help_and_version(segment):
    done = command("--help", segment=segment)
    assert done.returncode == 0
    for word in ("serve", "dump", "ls", "PROMRING_LISTEN", "exit status"):
        assert word in done.stdout
    assert command("--version", segment=segment).stdout.startswith("promring 0.")
    module = subprocess.run([sys.executable, "-m", "promring", "-V"], capture_output=True, text=True)
    assert module.stdout == command("-V", segment=segment).stdout


def test_wrong_usage(segment):
    for arguments in ([], ["fly"], ["serve", "--port"], ["dump", "--colour"]):
        done = command(*arguments, segment=segment)
        assert done.returncode == 2
        assert "promring --help" in done.stderr


def test_dump_and_ls(segment, registry):
    Counter("c", "A counter.", registry=registry).inc(3)
    done = command("dump", segment=segment)
    assert done.returncode == 0
    assert samples(done.stdout)["c_total", ()] == 3
    listed = command("ls", segment=segment).stdout
    assert f"pid {os.getpid()}" in listed and "running" in listed
    nothing = command("dump", "--segment", str(segment) + "-none", segment=segment)
    assert nothing.returncode == 1
    assert "is the app running?" in nothing.stderr


def test_serve(segment, registry):
    counter = Counter("c", "A counter.", registry=registry)
    counter.inc(3)
    port = free_port()
    process = subprocess.Popen([COMMAND, "serve", "--listen", f"127.0.0.1:{port}"], env=environment(segment))
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until("promring serve", lambda: answers(url + "/-/ready"))
        counter.inc()
        assert fetch(url + "/metrics", "HEAD")[2] == ""
        wait_until("a fresh page", lambda: samples(fetch(url + "/metrics")[2])["c_total", ()] == 4)
        assert fetch(url + "/elsewhere")[0] == 404
        assert fetch(url + "/metrics", "POST")[0] == 405
        second = command("serve", "--listen", f"127.0.0.1:{free_port()}", segment=segment)
        assert second.returncode == 1
        assert str(process.pid) in second.stderr
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert not is_there(process.pid)
