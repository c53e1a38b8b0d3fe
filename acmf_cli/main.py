"""The entry point: finds the command, turns every error into one line and an exit code.

Commands are named here and imported only when called, so that `acmf --help` answers at once.
"""

import importlib
import sys
import traceback
from pathlib import Path

import click

from acmf_core.errors import AcmfError

INTERRUPTED = 130

# name -> (module, attribute, group, help)
COMMANDS = {
    "demo": ("acmf_cli.demo", "demo", "Start", "The main job end to end, from bars to a report."),
    "data": ("acmf_cli.data", "data", "Research", "History into the lake: pull, import, status, check."),
    "run": ("acmf_cli.notebooks", "run", "Research", "A parameterised notebook through papermill."),
    "train": ("acmf_cli.research", "train", "Research", "Train a bundle on the lake."),
    "tune": ("acmf_cli.research", "tune", "Research", "Tune trading thresholds inside a training window."),
    "backtest": ("acmf_cli.research", "backtest", "Research", "Walk-forward backtest and its report."),
    "models": ("acmf_cli.models", "models", "Production", "Registry: list, show, promote, rollback."),
    "replay": ("acmf_cli.replay", "replay", "Production", "Past bars at full speed through the daemon."),
    "config": ("acmf_cli.settings", "config", "Set-up", "The effective configuration."),
}


class Commands(click.Group):
    """A group that knows its commands' names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, (_, _, group, text) in COMMANDS.items():
            groups.setdefault(group, []).append((name, text))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="TOML file [acmf.toml].")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (allowed anywhere).")
@click.version_option(package_name="acmf", prog_name="acmf")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None, debug: bool) -> None:
    """ACMF: research, backtest and trade crypto perpetual futures with one and the same code.

    Exit codes: 0 done, 1 the answer is no, 2 wrong usage or data, 3 something outside failed, 130 Ctrl-C.
    """
    from production import settings

    ctx.obj = settings.load(config_path)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        code = cli.main(arguments, prog_name="acmf", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; nothing is half-written, the same command goes on or starts over")
        code = INTERRUPTED
    except click.ClickException as error:
        code = _usage(error)
    except BrokenPipeError:
        code = 0
    except Exception as error:  # the outermost level: one line instead of a traceback
        if debug:
            traceback.print_exception(error)
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: click.ClickException) -> int:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"; see {error.ctx.command_path} --help"
    _say(error.format_message().rstrip(".") + hint)
    return 2


def _explain(error: Exception) -> int:
    if isinstance(error, AcmfError):
        _say(str(error))
        return error.exit_code
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        _say(f"{error.strerror or error}{where}; check the path, its permissions and the free space")
        return 3
    text = str(error).splitlines()[0] if str(error) else "no message"
    _say(f"unexpected {type(error).__name__}: {text}; run again with --debug and report it")
    return 3


def _say(text: str) -> None:
    click.echo("acmf: " + " ".join(text.split()), err=True)
