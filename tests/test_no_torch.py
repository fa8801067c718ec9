"""What must answer at once does not import torch, pandas or numpy."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "statement",
    [
        "import attnprof",
        "import attnprof.attention",
        "import attnprof.cases.cards, attnprof.cases.plan, attnprof.cases.record_file",
        "import attnprof.measure.runner, attnprof.emulation",
        "import attnprof.studies.sweep, attnprof.studies.limits, attnprof.studies.model, attnprof.studies.program",
        "import attnprof.studies.recommend.from_runs, attnprof.studies.recommend.from_file, attnprof.studies.doctor",
        "import attnprof.report.sweep, attnprof.report.rows, attnprof.report.gpus, attnprof.report.program",
        "import attnprof.report.limits, attnprof.report.model, attnprof.report.recommend",
        "from attnprof.cases.cards import parse_cards; parse_cards('t4')",
        "from attnprof.attention import parse_strategy; parse_strategy('pooled+sdpa-pad+fp16')",
        "from attnprof.cli.app import app; app(['gpus'], standalone_mode=False)",
        "from attnprof.cli.app import app; app(['strategies'], standalone_mode=False)",
        "from attnprof.cli.app import app; app(['blocks'], standalone_mode=False)",
        "from attnprof.cli.app import app; app(['snippet', 'sdpa-pad'], standalone_mode=False)",
        "from attnprof.cli.app import app; app(['sweep', '--help'], standalone_mode=False)",
    ],
)
def test_no_torch_and_no_pandas(statement):
    code = f"import sys\n{statement}\nassert not {{'torch', 'pandas', 'numpy'}} & set(sys.modules), 'imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
