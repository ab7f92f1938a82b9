import re
import sys

import pytest

from adain.batch.jobs import ImageFolder, plan_jobs
from adain.methods import AdaINLite
from adain.utils.files import write_csv as write_rows
from tests.conftest import SIZES, picture, picture_of_bytes, write_csv


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
        assert alone in whole, "names do not depend on what else is stylized"


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


def test_results_do_not_overwrite_inputs_of_other_jobs(planned, tree):
    content, style, output = tree
    earlier = output / "a__x.png"
    picture(earlier, (40, 32))
    table = write_csv(content.parent / "t.csv", "content,style", "a.png,x.png", f"cats/b.png,{earlier}")
    with pytest.raises(ValueError, match=r"out/a__x\.png is an input and would be overwritten; name another output"):
        planned(pairs=table)
    table = write_csv(content.parent / "t.csv", "content,style", "a.png,y.png", f"cats/b.png,{earlier}")
    assert len(planned(pairs=table)) == 2, "results of earlier runs may be styles of others"
    (output / "a__y.png").symlink_to(style / "y.png")
    with pytest.raises(ValueError, match=r"out/a__y\.png is an input"):
        planned()


def test_strengths_in_names_are_not_names_of_styles(planned, tree):
    for name in ("x-0.5.png", "X-0.7.png"):
        picture(tree[1] / name, (40, 40))
    rows = ["a.png,x.png,0.5", "a.png,x.png,0.7", "a.png,x.png,1", "a.png,x-0.5.png,1", "a.png,X-0.7.png,1"]
    table = write_csv(tree[0].parent / "t.csv", "content,style,alpha", *rows)
    found = [job.output.as_posix() for job in planned(pairs=table)]
    assert found[2] == "a__x-1.0.png", "only those that are alike have a hash"
    assert len({name.lower() for name in found}) == 5
    assert all(re.fullmatch(r"a__[xX]-0\.[57]-[0-9a-f]{8}\.png", name) for name in (*found[:2], *found[3:]))
    write_csv(table, "content,style,alpha", *reversed(rows))
    assert [job.output.as_posix() for job in planned(pairs=table)] == found[::-1], "the order of rows has no effect"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text")
def test_names_that_are_no_text(planned, tree):
    content = picture_of_bytes(tree[0] / "caf\udce9.png", seed=20)
    style = picture_of_bytes(tree[1] / ("caf\udce8" * 40 + ".png"), seed=21)
    both = [job for job in planned() if job.content == content and job.style == style]
    assert re.fullmatch("caf\udce9__caf\udce8.*-[0-9a-f]{8}.png", both[0].output.name)
    assert [job.content for job in planned(pairs="random")].count(content) == 1
    table = tree[0].parent / "t.csv"
    write_rows([{"content": content.name, "style": style.name}], table)
    assert planned(pairs=table) == both
    table.write_bytes(b"content,style\n\xe9.png,x.png\n")
    with pytest.raises(ValueError, match="no such file; expected a CSV file in UTF-8"):
        planned(pairs=table)


def test_jobs_name_their_places(planned, tree, make_picture):
    outside = make_picture("elsewhere/a.png", (40, 32), 77)
    table = write_csv(tree[0].parent / "t.csv", "content,style", "cats/b.png,x.png", f"{outside},x.png")
    inside, other = planned(pairs=table)
    assert inside.places == ("cats/b.png", "x.png")
    assert other.places == (outside.as_posix(), "x.png")
    assert re.fullmatch(r"a-[0-9a-f]{8}__x\.png", other.output.as_posix())


def test_all_pairs_are_planned_in_order(planned, tree):
    jobs = planned(alpha=0.5)
    expected = [(f"{name}.png", f"{style}.png") for name in SIZES for style in "xyz"]
    assert [job.places for job in jobs] == expected
    assert {job.alpha for job in jobs} == {0.5}
    assert jobs[0].output.as_posix() == "a__x.png", "one alpha for all is not part of the name"


def test_random_pairs_depend_on_the_seed_and_the_name_only(tree):
    method = AdaINLite((4, 4, 4), 1, (4,), 4)
    for i in range(9):
        picture(tree[0] / f"more/{i}.png", (24, 24), i)

    def drawn(seed):
        folders = [ImageFolder(side, tree[2]) for side in tree[:2]]
        return dict(job.places for job in plan_jobs(folders, tree[2], "random", method, 1.0, seed, ".png"))

    first = drawn(0)
    assert len(first) == 13
    assert set(first.values()) == {"x.png", "y.png", "z.png"}
    assert drawn(1) != first
    (tree[0] / "more" / "0.png").unlink()
    del first["more/0.png"]
    assert drawn(0) == first


def test_a_folder_may_be_one_image(tree):
    folder = ImageFolder(tree[0] / "cats" / "b.png", tree[2])
    assert folder.path == tree[0] / "cats"
    assert folder.files == [tree[0] / "cats" / "b.png"]
    assert folder.place(tree[0] / "cats" / "b.png") == "b.png"
    assert folder.place(tree[1] / "x.png") == (tree[1] / "x.png").as_posix()


def test_a_folder_of_results_only_is_refused(tree):
    picture(tree[0].parent / "done" / "out" / "a__x.png")
    with pytest.raises(ValueError, match="found only results of earlier runs"):
        ImageFolder(tree[0].parent / "done", tree[0].parent / "done" / "out")
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        ImageFolder(tree[0] / "none", tree[2])


def test_underscores_of_styles_are_not_those_that_separate_names(tree):
    for name in ("_u", "v__w", "v_w"):
        picture(tree[1] / f"{name}.png")
    names = ImageFolder(tree[1], tree[2]).names([])
    found = {path.stem: name.name for path, name in names.items()}
    assert found["v_w"] == "v_w"
    assert re.fullmatch(r"_u-[0-9a-f]{8}", found["_u"])
    assert re.fullmatch(r"v__w-[0-9a-f]{8}", found["v__w"])


def test_names_are_cut_above_200_bytes(planned, tree):
    for length in (97, 98):  # together with a style name of 100 characters and two underscores: 199 and 200
        picture(tree[0] / f"{'c' * length}.png")
    picture(tree[0] / f"{'d' * 99}.png")
    picture(tree[1] / f"{'s' * 100}.png")
    found = {name.removesuffix(".png") for name in names(planned()) if "sss" in name}
    assert {f"{'c' * length}__{'s' * 100}" for length in (97, 98)} < found
    (cut,) = (name for name in found if name.startswith("ddd"))
    assert re.fullmatch(rf"{'d' * 99}__{'s' * 99}-[0-9a-f]{{8}}", cut)
