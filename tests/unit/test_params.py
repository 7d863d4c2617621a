"""params.yaml: what is accepted, and what is said about what is not."""

import pytest
from ruamel.yaml.comments import CommentedMap

from pipeline import params
from pipeline.core.errors import ParamsError, WorkspaceError

COMMENTED = """\
# which digits
model: digits   # the registry's name
seed: 3
train:
  strategy: {name: lp_ft}
"""


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "params.yaml").write_text(COMMENTED)
    return tmp_path


def test_a_typo_names_the_nearest_key():
    """An unknown key is refused; the message lists the keys there are and the one probably meant."""
    with pytest.raises(ParamsError) as caught:
        params.parse({"trian": {}}, where="params.yaml")
    assert "found the unknown key 'trian'" in str(caught.value)
    assert "Did you mean 'train'?" in str(caught.value)


def test_a_typo_inside_a_section_says_where():
    """The message names the dotted key and the keys of that section."""
    with pytest.raises(ParamsError) as caught:
        params.parse({"ingest": {"val_shar": 0.1}}, where="params.yaml")
    assert "one of the keys of ingest" in str(caught.value)
    assert "ingest.val_shar in params.yaml" in str(caught.value)
    assert "Did you mean 'val_share'?" in str(caught.value)


def test_an_unknown_strategy_lists_the_strategies():
    """The message lists every strategy there is."""
    from pipeline.core import plugins

    with pytest.raises(ParamsError) as caught:
        params.parse({"train": {"strategy": {"name": "lpft"}}}, where="params.yaml")
    listed = ", ".join(plugins.names("pipeline.training.strategies"))
    assert f"Expected one of: {listed}; found 'lpft'" in str(caught.value)
    assert "found 'lpft'" in str(caught.value)
    assert "Did you mean 'lp_ft'?" in str(caught.value)


def test_a_value_out_of_range_says_what_was_expected():
    """The value found and the range expected are both in the message."""
    with pytest.raises(ParamsError) as caught:
        params.parse({"seed": -1}, where="params.yaml")
    assert "greater than or equal to 0; found -1" in str(caught.value)


def test_no_params_file_says_how_to_make_one(tmp_path):
    """A folder that is no workspace is told apart from one with a fault."""
    with pytest.raises(WorkspaceError, match="graftline init"):
        params.load(tmp_path)


def test_a_value_below_its_key_is_told(tmp_path):
    """What one writes who forgets `name:` in the template; ruamel gives up on it with an error of its own."""
    (tmp_path / "params.yaml").write_text("train:\n  strategy:  # a list of them\n    probe\n\nexport: {}\n")
    with pytest.raises(ParamsError) as caught:
        params.load(tmp_path)
    assert "a value below its key, behind which there is a comment, in line 2" == caught.value.found
    assert "`name: value`" in caught.value.remedy


def test_broken_yaml_names_the_line(tmp_path):
    """A YAML mistake is given with its line."""
    (tmp_path / "params.yaml").write_text("model: digits\nseed: [1\n")
    with pytest.raises(ParamsError, match="line 3"):
        params.load(tmp_path)


def test_set_keeps_comments_and_says_what_changed(workspace):
    """--set writes the value into params.yaml and leaves everything else as it stands."""
    assert params.assign(workspace, ["seed=4", "model=digits"]) == ["seed: 3 → 4"]
    assert (workspace / "params.yaml").read_text() == COMMENTED.replace("seed: 3", "seed: 4")


def test_set_names_the_default_that_was_in_force(workspace):
    """Not null, which would say that nothing was."""
    said = params.assign(workspace, ["explain.images=8", "export.int8=false", "train.strategy.name=lp_ft"])
    assert said == ["explain.images: auto → 8"]
    assert 8 == params.load(workspace).explain.images
    assert params.assign(workspace, ["validate.min_images=7"]) == ["validate.min_images: 10 → 7"]
    both = params.assign(workspace, ["train.strategy.name=full", "train.strategy.epochs=8"])
    assert both[1] == "train.strategy.epochs: null → 8", "what lp_ft has by default is not said of another"


def test_set_of_another_plugin_drops_the_old_ones_values(workspace):
    """Another strategy starts from its own defaults: values of the old one do not apply to it."""
    (workspace / "params.yaml").write_text("train:\n  strategy: {name: lp_ft}\n")
    params.assign(workspace, ["train.strategy.name=probe"])
    assert params.load(workspace).train.strategy.name == "probe"


def test_what_another_plug_in_has_no_use_for_is_named(workspace):
    """Its own settings go, and the line says which; the file is short of them from then on."""
    params.assign(workspace, ["train.strategy.name=partial"])
    params.assign(workspace, ["train.strategy.epochs=3", "train.strategy.frozen_blocks=1"])
    said = params.assign(workspace, ["train.strategy.name=ridge"])
    assert said == ["train.strategy.name: partial → ridge (partial's own epochs, frozen_blocks removed)"]
    assert "epochs" not in params.read(workspace / "params.yaml")["train"]["strategy"]


def test_set_that_is_not_valid_changes_nothing(workspace):
    """One bad assignment and none is written."""
    with pytest.raises(ParamsError, match="--set"):
        params.assign(workspace, ["seed=9", "seeed=1"])
    assert (workspace / "params.yaml").read_text() == COMMENTED


def test_set_without_equals_shows_an_example(workspace):
    """The form of --set is shown."""
    with pytest.raises(ParamsError, match=r"--set train\.strategy\.name=probe"):
        params.assign(workspace, ["seed"])


def test_schema_knows_every_plugin():
    """Editors are offered every strategy by name."""
    from pipeline.core import plugins

    schema = params.json_schema()
    strategy = schema["$defs"]["pipeline__stages__train__Params"]["properties"]["strategy"]
    offered = {choice["properties"]["name"]["const"] for choice in strategy["oneOf"]}
    assert offered == set(plugins.names("pipeline.training.strategies"))


def test_a_secret_is_not_shown_when_it_is_set(workspace):
    """The line that says what changed leaves the value out."""
    assert params.assign(workspace, ["notify.webhook=https://hooks.example/T0KEN"]) == ["notify.webhook: changed"]


class Interrupted(CommentedMap):
    """As the YAML reader makes them, when Ctrl-C comes while one is first read."""

    come = False

    def items(self):
        if not self.come:
            self.come = True
            raise KeyboardInterrupt
        return super().items()


def test_an_interrupt_is_no_fault_of_the_file():
    """pydantic would say that the mapping is not valid, and the run end with exit code 2."""
    with pytest.raises(KeyboardInterrupt):
        params.parse({"runtime": Interrupted(workers=1)}, "params.yaml")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("runtime: {device", "gpu}", "auto (CUDA, else MPS, else CPU), cpu, cuda"), ("model", "a b", "a letter or digit")],
)
def test_a_text_of_another_form_is_told_in_words(tmp_path, key, value, said):
    """Not as the regular expression that it failed."""
    (tmp_path / "params.yaml").write_text(f"{key}: {value}\n")
    with pytest.raises(ParamsError) as caught:
        params.load(tmp_path)
    assert said in caught.value.expected
    assert "^" not in caught.value.expected
