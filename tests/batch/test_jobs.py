import pytest

from adain.batch.jobs import ImageFolder, plan_jobs
from adain.methods import AdaINLite
from tests.conftest import SIZES, picture, write_csv


@pytest.fixture
def planned(tree):
    """The jobs of the tree."""
    method = AdaINLite((4, 4, 4), 1, (4,), 4)

    def call(*, pairs="all", output=tree[2], alpha=1.0):
        return plan_jobs([ImageFolder(side, output) for side in tree[:2]], output, pairs, method, alpha, 0, ".png")

    return call


def names(jobs):
    return {job.output.as_posix() for job in jobs}


def test_pairs_from_a_table(planned, tree, make_picture):
    outside = make_picture("elsewhere/a.png", (40, 32), 77)
    rows = ["a.png,x.png,", "a.png,x.png,0.5", f"{outside},{tree[1]}/y.png,0", "cats/b.png,z.png,1", "a.png,x.png,"]
    table = write_csv(tree[0].parent / "t.csv", "content,style,alpha", *rows)
    whole, half, other, nested = planned(pairs=table, alpha=0.8)
    assert names([whole, half, nested]) == {"a__x-0.8.png", "a__x-0.5.png", "cats/b__z.png"}
    assert [job.alpha for job in (whole, half, other, nested)] == [0.8, 0.5, 0, 1]
    assert (half.content, half.style) == (tree[0] / "a.png", tree[1] / "x.png")
    assert other.output.name.startswith("a-")
    assert other.output.name.endswith("__y.png")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["content,stil", "a.png,x.png"], "Expected the column style in"),
        ([], "Expected the column content and style in"),
        (["content,style"], "Expected rows below the column names"),
        (["content,style", "a.png,x.png", "b.png,x.png"], "row 3: .*content/b.png: no such file"),
        (["content,style", "a.png"], "row 2: .*style: no such file"),
        (["content,style,alpha", "a.png,x.png,1.5"], "row 2: alpha must be between 0 .*, got 1.5"),
        (["content,style,alpha", "a.png,x.png,much"], "row 2: .* got much"),
    ],
)
def test_wrong_tables_are_refused(planned, tree, rows, message):
    with pytest.raises(ValueError, match=message) as error:
        planned(pairs=write_csv(tree[0].parent / "t.csv", *rows))
    assert "\n" not in str(error.value)


def test_equal_names_never_share_an_output(planned, tree):
    content, style, _ = tree
    picture(content / "a.jpg", (40, 32), 20)
    picture(content / "cats/B.bmp", (40, 32), 21)
    picture(content / "cats/c_.png", (40, 32), 22)
    picture(style / "old/x.png", (40, 40), 23)
    picture(style / "_y.png", (40, 40), 24)
    whole = planned()
    assert len({name.lower() for name in names(whole)}) == len(whole) == 7 * 5, "also where file systems know no case"
    assert {"cats/c__z.png", "dogs/b__z.png"} < names(whole), "only those that are alike have a hash"
    for row in ("a.jpg,old/x.png", "a.png,x.png", "cats/c_.png,y.png"):
        (alone,) = planned(pairs=write_csv(content.parent / "t.csv", "content,style", row))
        assert alone in whole, "names do not depend on what else is painted"


def test_long_names_are_cut(planned, tree):
    picture(tree[0] / f"{'é' * 110}.png", (40, 32))
    picture(tree[1] / f"{'s' * 150}1.png", (40, 32))
    picture(tree[1] / f"{'s' * 150}2.png", (40, 32))
    found = names(planned())
    assert len(found) == 25
    assert max(len(name.encode()) for name in found) < 220, "with room for a suffix, and what a temporary file adds"


def test_results_do_not_lie_among_the_pictures(planned, tree):
    assert names(planned(output=tree[0] / "results")) == {f"{name}__{style}.png" for name in SIZES for style in "xyz"}
    with pytest.raises(ValueError, match="would lie among the images"):
        planned(output=tree[0])
    picture(tree[0] / "content/a.png")
    with pytest.raises(ValueError, match="would lie among the images"):
        planned(output=tree[0].parent)
