"""Bad input gets one clear line, and nothing is lost."""

import pytest
from support.commands import SMALL, attnprof_here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hw", "64x"], "hw: '64x' is not a size; write 64 or 64x96"),
        (["--strategy", "chunkd"], "did you mean 'chunked'"),
        (["--channels", "100"], "channels: 100 is not divisible by 8"),
        (["--budget", "12 cows"], "'12 cows' is not a memory size"),
        (["--device", "tpu"], "device: 'tpu' is not a device; write auto, cpu, cuda or cuda:1"),
        (["--format", "xml"], "format: 'xml' is not one of table"),
        (["--resume"], "--resume continues a file; name it with --out"),
        (["--timeout", "-1"], "timeout: '-1' is not a positive number of seconds"),
        (["--seed", "x"], "seed: 'x' is not a whole number of 64 bits; write one, such as 0"),
        (["--sed", "1"], "'--sed' is not an option: did you mean --csv or --seed?"),
        (["--csv", "no/such/folder/t.csv"], "the folder of no/such/folder/t.csv does not exist"),
        (["--out", "/proc/nothing/r.jsonl"], "cannot make the folder of '/proc/nothing/r.jsonl'"),
        (["--gpu", "t5"], "'t5' is not in the catalogue: did you mean t4"),
        (["--gpu", "t4,sms=4"], "'sms' is not a property that can be set"),
        (["--gpu", "t4", "--device", "cpu"], "gpu: 't4' is emulated, and --device cpu measures; choose one"),
        (["--context", "1GiB"], "name one with --gpu"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    done = attnprof_here("sweep", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_limits_without_an_end_are_refused():
    done = attnprof_here("limits")
    assert (done.returncode, done.stdout) == (2, "")
    assert "pass --budget 2GB" in done.stderr


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "r.jsonl").write_text("precious\n")
    for extra in ([], ["--resume"]):
        done = attnprof_here(*SMALL, "--out", tmp_path / "r.jsonl", *extra)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "r.jsonl").read_text() == "precious\n"
