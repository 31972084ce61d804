"""The verb completion: the script that makes a shell complete verbs and options of kvorum.

Click knows how to complete and how each shell wants to be asked; what is added here is a verb that
is easy to find. The script calls ``kvorum`` again for each completion, so start-up must be quick:
nothing on this path imports gRPC.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kvorum_cli.settings import Verb

COMPLETION_VARIABLE = "_KVORUM_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Verb,
    examples="""
    eval "$(kvorum completion bash)"                            # in ~/.bashrc
    eval "$(kvorum completion zsh)"                             # in ~/.zshrc
    kvorum completion fish > ~/.config/fish/completions/kvorum.fish
    """,
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL."""
    completer = get_completion_class(shell)
    assert completer is not None, "click completes the shells that we offer"
    root = click.get_current_context().find_root()
    click.echo(completer(root.command, {}, "kvorum", COMPLETION_VARIABLE).source())
