"""The Python that the READMEs and the pages in docs show works as written."""

import re

import pytest
from conftest import REPOSITORY, environment, run, samples

SHOW = """
answer = []
body = b"".join(metrics({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}, lambda *a: answer.append(a)))
assert answer[0][0] == "200 OK"
print(body.decode())
"""


def blocks(path):
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / path).read_text(), re.DOTALL)


@pytest.mark.parametrize("path", ["README.md", "wheels/promring/README.md"])
def test_five_lines(path, segment):
    five = next(block for block in blocks(path) if "make_wsgi_app" in block)
    assert len(five.splitlines()) == 5
    out, _ = run(five + SHOW, environment(segment.with_name("five")))
    assert samples(out)["orders_total", (("kind", "book"),)] == 1


def test_all_other_python_of_the_wheel_s_readme_runs():
    for block in blocks("wheels/promring/README.md"):
        if "make_wsgi_app" not in block:
            exec(compile(block, "README.md", "exec"), {})


PAGES = sorted(path.name for path in (REPOSITORY / "wheels/promring/docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_python_of_the_pages_runs(page, segment):
    """As one program for each page: later blocks use what earlier ones have made."""
    program = "\n".join(blocks(f"wheels/promring/docs/{page}"))
    assert program
    run(program, environment(segment.with_name("page")))
