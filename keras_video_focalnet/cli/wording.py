"""What the package says to callers of its functions, in the words of the command line."""

import contextlib
import os
import re
import signal
import threading
import warnings

import click

from keras_video_focalnet.cli.backend import quiet_start

# Within a path it is part of a file's name.
_ARGUMENT = re.compile(r"(?<![\w/.-])([a-z_]+)(?:\[\d+\])?=('[^']*'|\"[^\"]*\"|[^\s,;:()]*[^\s,;:().])")
# What is said of an argument by its bare name, and not of a file that is called so.
_VALUE = r"['\"\[({]|-?\d|None\b|True\b|False\b"
_SAID = rf"(?= (?:must|allows|wants|counts|goes? with|has (?:no value|\d|')|is (?:for|missing|left out|{_VALUE})))"
# What is done without an argument.
_WITHOUT = re.compile(r"\bwith ([a-z_]+)=(?:False|None)(?![\w.]*\w)")
# An argument with the option that stands for it.
_BOTH = re.compile(r"\b\w+=(True)? \((--[^)]*)\)")
# Advice about an argument that no option stands for.
_ADVICE = re.compile(r"(?:^|(?<=[.;] ))Pass [a-z_]+=[^.]*\.\s*")


def in_options(text, parameters):
    """A message that names arguments of Python, with the options of a command in their place.

    `name='value'` turns into `--name value`, also where the value is left out. Of a flag, `name=True` turns into
    `--name` and `name=False` into `no --name`. `with name=False` and `with name=None` turn into `without --name`. A
    bare name, which may be that of a file too, turns into its option where what follows is said of arguments alone, as
    in `name must be`: of an underscored name anywhere, of any other at the beginning. Advice about arguments that the
    command has no option for is left out.
    """
    options = {parameter.name: parameter for parameter in parameters if isinstance(parameter, click.Option)}

    def spoken(match):
        name, value = match[1], match[2].strip("'\"")
        if name not in options:
            return match[0]
        written = _written(options[name])
        if options[name].is_flag:
            return f"no {written}" if value == "False" else written
        return f"{written} {value}"

    def without(match):
        return f"without {_written(options[match[1]])}" if match[1] in options else match[0]

    # Some messages name both.
    text = _ARGUMENT.sub(spoken, _WITHOUT.sub(without, _BOTH.sub(r"\2", text)))
    for name, option in options.items():
        begins = r"(?<![\w.'/-])" if "_" in name else "^"
        text = re.sub(rf"{begins}{name}{_SAID}|(?<![\w/.-]){name}=(?=[ ,;.])", _written(option), text)
    return _ADVICE.sub("", text).strip()


def _written(option):
    """The longest form of an option."""
    return max(option.opts, key=len)


class SpokenGroup(click.Group):
    """A group whose commands tell errors and warnings of the package in one line and in the words of their options.

    Ctrl-C ends each with the exit code 130 and SIGTERM with 143, and files that were being written are gone.
    """

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
            with _terminated_like_interrupted():
                return super().invoke(ctx)
        except click.ClickException as error:
            error.message = spoken(error.message)
            raise
        except KeyboardInterrupt as error:
            # Commands tell what they have done; this came before there was any, as while a model was loaded.
            click.echo("Interrupted.", err=True)
            # Shells use this exit code for a program that a signal ended; click has another.
            raise SystemExit(128 + (signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT)) from None
        finally:
            warnings.formatwarning = before


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def _terminated_like_interrupted():
    """Have SIGTERM raise as Ctrl-C does, so that what cleans up behind an error does so behind it too.

    Python lets only the main thread say so, and a handler that somebody else has set is left.
    """
    process = os.getpid()

    def terminate(number, _):
        if os.getpid() != process:
            # A worker that was forked is ended by its parent, and has nothing of its own to clean up.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise _Terminated

    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
