"""Every error Graftline raises on purpose.

GraftlineError                    exit code 1
├── InputError                    exit code 2: something the user gave us; the message says how to mend it
│   ├── ParamsError               params.yaml, --set
│   ├── DataError                 images, tables, labels
│   ├── WeightsError              checkpoints and their digests
│   ├── WorkspaceError            the folder Graftline was pointed at
│   ├── BundleError               a model or bundle to predict with
│   └── RegistryError             versions and aliases
│       └── ChampionMovedError    another champion than the one that was compared with
├── TrainingError                 the numbers went wrong (a NaN loss, a frozen weight that moved)
├── StageError                    a stage's process ended badly
├── BusyError                     somebody else holds the workspace
└── ServiceError                  a server or a disk did not answer
    └── StoreError                the tracking store or registry
"""

from __future__ import annotations

from collections.abc import Iterator


class GraftlineError(Exception):
    """Base of all of them; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class InputError(GraftlineError):
    """The user's input is not usable. Says what was expected, what was found, where it was set and what to do.

    >>> print(InputError(expected="a folder of images", found="an empty folder",
    ...                  where="ingest.target.path in params.yaml", remedy="Put at least one image in it."))
    Expected a folder of images; found an empty folder.
      where:  ingest.target.path in params.yaml
      remedy: Put at least one image in it.
    """

    exit_code = 2

    def __init__(self, *, expected: str, found: str, where: str, remedy: str) -> None:
        self.expected, self.found, self.where, self.remedy = expected, found, where, remedy
        super().__init__(f"Expected {expected}; found {found}.\n  where:  {where}\n  remedy: {remedy}")

    def __reduce__(self) -> tuple:
        """Pickle by fields: the default would replay the message as a positional argument."""
        return _rebuild, (type(self), self.expected, self.found, self.where, self.remedy)


def _rebuild(kind: type[InputError], expected: str, found: str, where: str, remedy: str) -> InputError:
    return kind(expected=expected, found=found, where=where, remedy=remedy)


class ParamsError(InputError):
    """A value in params.yaml or in ``--set`` is missing, unknown or out of range."""


class DataError(InputError):
    """Images, tables or labels that cannot be used as they are."""


class WeightsError(InputError):
    """A checkpoint is missing, does not match its digest, or does not fit the backbone."""


class WorkspaceError(InputError):
    """The folder is not a Graftline workspace, or not one that can be written to."""


class BundleError(InputError):
    """A bundle or model file cannot be loaded for prediction."""


class RegistryError(InputError):
    """A model version or alias that was asked for does not exist."""


class ChampionMovedError(RegistryError):
    """The champion is another than the one a decision was made against; nothing was changed."""


class TrainingError(GraftlineError):
    """Training cannot go on: the loss is not finite, or a promise about frozen weights was broken."""


class BudgetError(TrainingError):
    """Training has reached its deadline, and is stopped."""


class ReleaseError(GraftlineError):
    """The model in the registry does not answer as the one that was judged; it is not promoted."""


class StageError(GraftlineError):
    """A stage's process failed for a reason that is not the user's input."""


class BusyError(GraftlineError):
    """Another process holds this workspace."""


class ServiceError(GraftlineError):
    """Something outside this process (a server, a disk) did not do what was asked."""


class StoreError(ServiceError):
    """The tracking store, which is also the registry, did not do what was asked."""


def beneath(error: BaseException | None) -> Iterator[BaseException]:
    """The error itself, then what it was raised from or in the handling of, down to the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def kept(error: GraftlineError) -> dict[str, str]:
    """What :func:`restored` makes the error from again, in another process; plain text, for JSON."""
    fields = ("expected", "found", "where", "remedy")
    told = {field: getattr(error, field) for field in fields} if isinstance(error, InputError) else {"text": str(error)}
    return {"kind": type(error).__name__, **told}


def restored(fields: dict[str, str]) -> GraftlineError:
    """The error that :func:`kept` was given, of its own kind."""
    kind = globals()[fields["kind"]]
    told = {name: value for name, value in fields.items() if name != "kind"}
    return kind(**told) if issubclass(kind, InputError) else kind(told["text"])
