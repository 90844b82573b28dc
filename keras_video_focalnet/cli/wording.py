"""What the package says to callers of its functions, in the words of the command line."""

import re
import warnings

import click

from keras_video_focalnet.cli.backend import quiet_start

_ARGUMENT = re.compile(r"\b([a-z_]+)=('[^']*'|\"[^\"]*\"|[^\s,;:()]*[^\s,;:().])")
# Advice about an argument that no option stands for.
_ADVICE = re.compile(r"(?:^|(?<=[.;] ))Pass [a-z_]+=[^.]*\.\s*")


def in_options(text, parameters):
    """Turn `name='value'` into `--name value` where a command has such an option, and leave out other such advice."""
    options = {parameter.name: parameter for parameter in parameters if isinstance(parameter, click.Option)}

    def spoken(match):
        name, value = match[1], match[2].strip("'\"")
        if name not in options:
            return match[0]
        option = max(options[name].opts, key=len)
        return option if options[name].is_flag else f"{option} {value}"

    return _ADVICE.sub("", _ARGUMENT.sub(spoken, text)).strip()


class SpokenGroup(click.Group):
    """A group whose commands tell errors and warnings of the package in one line and in the words of their options."""

    def invoke(self, ctx):
        """Run a command."""

        def spoken(text):
            command = self.commands.get(ctx.invoked_subcommand)
            return in_options(str(text), command.params if command else ())

        quiet_start()
        before = warnings.formatwarning
        # Whoever records warnings, as tests do, still gets them.
        warnings.formatwarning = lambda message, *_, **__: f"Warning: {spoken(message)}\n"
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = spoken(error.message)
            raise
        finally:
            warnings.formatwarning = before
