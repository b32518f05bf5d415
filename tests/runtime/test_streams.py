"""Standard streams that are closed, full, or that nobody reads: as a shell gives them to a command."""

import subprocess
import sys

import pytest

MUCH = 'print("x" * 10**6)'
LITTLE = 'print("x")'


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("body", "after", "status"),
    [
        (MUCH, "| head -c 1", 141),
        ('[print("x" * 1000) for _ in range(1000)]', "| head -1", 141),
        (f"({MUCH}, sys.exit(2))", "| head -c 1", 141),
        ('print("x" * 10**6, file=sys.stderr)', "2>&1 >/dev/null | head -c 1", 141),
        (LITTLE, "| (exec 0<&-; sleep 0.5)", 141),
        (LITTLE, ">/dev/full", 2),
        (MUCH, ">/dev/full", 1),  # of the command itself, which reports it
        ('print("x", file=sys.stderr)', "2>/dev/full", 2),
        ('sys.stdout.buffer.write(b"x")', ">/dev/full", 2),
        (LITTLE, ">&-", 0),
        (LITTLE, ">&- 2>&-", 0),
        (LITTLE, "<&- >&- 2>&-", 0),
        ("sys.exit(3)", ">&-", 3),
        ("sys.exit(3)", "| cat", 3),
        ("[][1]", "| cat", 1),
        (LITTLE, "", 0),
        ('print("\\u4e2d \\U0001f600")', "", 0),
    ],
)
def test_the_status(body: str, after: str, status: int) -> None:
    time = "import time; time.sleep(0.3); " if "exec 0" in after else ""
    command = f"{sys.executable} -c 'import sys; from lightning_embed.runtime import streams; {time}streams.run(lambda: {body})' {after}"
    done = shell(f"export PYTHONIOENCODING=ascii PYTHONUNBUFFERED=; {command}")
    assert done.returncode == status
    if status in (141, 0):
        assert done.stderr == "" or "2>&1" in after
    assert "Exception ignored" not in done.stderr


def test_a_file_does_not_get_the_number_of_a_closed_stream() -> None:
    """What is printed would be written to it."""
    body = "sys.stderr.write(str(open(sys.executable).fileno()))"
    command = f"{sys.executable} -c 'import sys; from lightning_embed.runtime import streams; streams.run(lambda: {body})' >&- <&-"
    assert int(shell(command).stderr) > 2


def test_a_pipe_to_elsewhere_keeps_its_error() -> None:
    body = "import os; a, b = os.pipe(); os.close(a); os.write(b, bytes(1))"
    code = f"from lightning_embed.runtime import streams\ndef f():\n    {body}\nstreams.run(f)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BrokenPipeError" in done.stderr


def test_the_console_of_a_run() -> None:
    body = "[PlainConsole().print(chr(120) * 1000) for _ in range(1000)]"
    code = f"from lightning_embed.report.console import PlainConsole; from lightning_embed.runtime import streams; streams.run(lambda: {body})"
    done = shell(f"{sys.executable} -c '{code}' | head -1")
    assert (done.returncode, done.stderr) == (141, "")
