import inspect
import typing

import pytest

from adain.inference import changes, options, pipeline
from adain.inference.image_types import ImageLike
from adain.methods import METHODS

SETTINGS = [kind for kind in METHODS.values() if not kind.trained]


def test_type_checkers_see_the_fields_of_style_options():
    """The names, their order, and their types, for functions that take options only and for those with settings."""
    expected = typing.get_type_hints(options.StyleOptions, localns={"ImageLike": ImageLike})
    assert [*typing.get_type_hints(changes.StyleChanges).items()] == [*expected.items()]
    assert typing.get_type_hints(changes.ChangesAndSettings).items() >= expected.items()
    assert not changes.ChangesAndSettings.__required_keys__


def test_type_checkers_see_the_settings_of_all_methods_without_weights():
    seen = typing.get_type_hints(changes.ChangesAndSettings)
    names = set()
    for kind in SETTINGS:
        types = typing.get_type_hints(kind.__init__)
        for name in inspect.signature(kind).parameters.keys() - changes.StyleChanges.__annotations__.keys():
            names.add(name)
            given = {*(typing.get_args(types[name]) or [types[name]])}
            assert given <= {*(typing.get_args(seen[name]) or [seen[name]])}, (kind, name)
    assert seen.keys() - changes.StyleChanges.__annotations__.keys() == names


@pytest.mark.skipif(not hasattr(typing, "get_overloads"), reason="Python 3.10 does not record overloads")
def test_editors_show_first_what_takes_any_image():
    first, _ = typing.get_overloads(pipeline.stylize)
    assert first.__annotations__["content"] == ImageLike
