"""What the README's answers show is what their lines print."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_answers_print_what_they_say():
    [section] = re.findall(r"^## Questions people ask\n(.*?)^## ", README.read_text(), re.MULTILINE | re.DOTALL)
    code = "".join(re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    shown = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(shown) == code.count("print(") > 0
    with redirect_stdout(StringIO()) as printed:
        exec(code, {})
    assert printed.getvalue().splitlines() == shown
