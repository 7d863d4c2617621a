"""Plug-ins are found by their file's name."""

import pytest

from pipeline.core import plugins

GATES = "pipeline.gates"


def test_private_modules_are_no_plugins():
    """A module whose name begins with an underscore is shared code, not a plug-in."""
    assert "_base" not in plugins.names(GATES)


def test_unknown_name_lists_what_exists_and_the_nearest():
    """The message names every plug-in there is and the one probably meant."""
    with pytest.raises(ValueError) as caught:
        plugins.load("pipeline.training.strategies", "lp-ft")
    assert "unknown name 'lp-ft'" in str(caught.value)
    assert "probe" in str(caught.value)
    assert "Did you mean 'lp_ft'?" in str(caught.value)


def test_a_name_like_none_of_them_is_told_so():
    """No guess is made; the names are listed in order, and the error keeps them."""
    with pytest.raises(plugins.UnknownNameError) as caught:
        plugins.load(GATES, "qqqq")
    known = plugins.names(GATES)
    listed = ", ".join(known)
    assert str(caught.value) == f"unknown name 'qqqq'; there are: {listed}. Choose one of the names above."
    assert (caught.value.name, caught.value.known) == ("qqqq", known)
    assert list(known) == sorted(known)
