import re

from benchmarks import hours

TEXT = """Machine: a

| layer | factor |
| --- | --- |
| relu1_1 | 154 |

| method | pairs | S | seconds |
| --- | --- | --- | --- |
| content | 3 | 1.000 |  |
| a | 3 | 0.1 | 10.5 |
| b | 2 | 0.1 | 7 |
"""


def test_seconds_are_multiplied_with_pairs_and_added():
    assert hours.seconds_of(TEXT) == 3 * 10.5 + 2 * 7
    assert hours.seconds_of(TEXT + TEXT) == 2 * (3 * 10.5 + 2 * 7)


def test_every_experiment_is_listed(capsys):
    hours.main()
    rows = re.findall(r"^\| `(.+)` \| ([\d.]+) \|$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) > 10
    assert all(float(number) > 0.02 for _, number in rows)
