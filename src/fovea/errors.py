"""Every error that Fovea raises on purpose, and what the shell makes of it.

FoveaError                    exit code 1
├── UserError (a ValueError)  exit code 2: what the user gave can be mended by the user
│   ├── DataError             a file, a table or an array that cannot be used
│   ├── SettingsError         a setting, a recipe or an unknown name
│   └── ModelError            a layer list or a module that does not fit the images
└── RunFailedError            exit code 1: the run broke off (disk full, loss not finite)
    └── NonFiniteLossError    the loss became nan or infinite

InputWarning (a UserWarning) is no error: images to be answered are unlike those of the training.

A message says what happened, where, what was expected and what to do, in one to three sentences.
"""

from __future__ import annotations


class FoveaError(Exception):
    """The root: `except fovea.FoveaError` catches whatever Fovea raises on purpose."""

    exit_code = 1


class UserError(FoveaError, ValueError):
    """Something the user gave that the user can mend."""

    exit_code = 2


class DataError(UserError):
    """A file, a table or an array that cannot be used as image data."""


class SettingsError(UserError):
    """A setting, a recipe or a name that does not exist or is out of range."""


class ModelError(UserError):
    """A layer list or a module that does not fit the images."""


class RunFailedError(FoveaError):
    """The run broke off for a reason outside the settings (a full disk, a vanished folder)."""


class NonFiniteLossError(RunFailedError):
    """The training loss became nan or infinite; the message names the step and the likely cause."""


class InputWarning(UserWarning):
    """Images were given to a model that are unlike those that it was trained on; the message says in what."""
