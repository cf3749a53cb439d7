"""The errors a user can meet: each says what is wrong, where, and what to do about it.

The command line turns any of them into one message on stderr and exit code 2 (see `cli/`).
"""

from mcontriever.shown_text import shown_message


class UserError(Exception):
    """A mistake the user can fix. `what` names both values (found and expected), `fix` the remedy.

    File names, ids and addresses are untrusted, so controls are escaped and passwords removed here.
    """

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what = shown_message(what)
        self.where = None if where is None else shown_message(str(where))
        self.fix = None if fix is None else shown_message(fix)
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        super().__init__("\n".join(lines))


class ConfigError(UserError):
    """A configuration file, recipe or command-line value that cannot be right."""


class DataError(UserError):
    """A corpus, example file or token shard that cannot be used as it is."""


class ModelError(UserError):
    """A model or tokenizer that is missing, damaged or not the one expected."""


class StoreError(UserError):
    """One of our folders (token shards, embeddings, a run) that is damaged, locked or made by something else."""


class HubError(UserError):
    """A host or hub that cannot be reached."""


class RunError(UserError):
    """A run that must stop: it collapsed, met NaN, or was asked for something that cannot work."""
