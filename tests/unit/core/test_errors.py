"""The messages people read when something they gave us is not usable."""

import pickle

from pipeline.core.errors import DataError, InputError

ERROR = DataError(
    expected="a folder of images", found="an empty folder", where="ingest.target.path", remedy="Put an image in it."
)


def test_message_has_all_four_parts():
    """One message: what was expected, what was found, where it was set, what to do."""
    expected = (
        "Expected a folder of images; found an empty folder.\n"
        "  where:  ingest.target.path\n"
        "  remedy: Put an image in it."
    )
    assert str(ERROR) == expected


def test_input_errors_end_with_exit_code_2():
    """The user's input is exit code 2, whatever the kind."""
    assert {kind.exit_code for kind in InputError.__subclasses__()} == {2}


def test_survives_pickling():
    """An error crosses process borders with its parts intact."""
    copy = pickle.loads(pickle.dumps(ERROR))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), copy.remedy) == (DataError, str(ERROR), "Put an image in it.")
