"""The parser of the training command line: short help by topic, and errors in one line."""

import argparse
from typing import Any

from pytorch_lightning.cli import LightningArgumentParser

from adain.methods import METHODS
from adain.utils.flags import PlainErrors, PlainFormatter

COMMANDS = {
    "fit": "Train a network, or resume a run with --ckpt_path.",
    "validate": "Compute the losses of a checkpoint on the held-out pairs.",
}
"""What each subcommand does."""

TOPICS = {
    "Data": ("data.",),
    "Network": ("model.method", "model.start", "model.style", "model.style_size", "model.compile"),
    "Losses": ("model.loss.",),
    "Optimizer": (
        *("model.optimizer", "model.lr", "model.schedule", "model.lr_decay", "model.warmup_steps"),
        *("trainer.gradient_clip_val", "trainer.accumulate_grad_batches"),
    ),
    "Run": (
        *("trainer.max_steps", "trainer.max_time", "trainer.default_root_dir", "ckpt_path", "last.every_n_steps"),
        *("trainer.val_check_interval", "trainer.log_every_n_steps", "seed_everything"),
    ),
    "Hardware": (
        *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.num_nodes", "trainer.precision"),
    ),
    "Other flags": ("help", "config", "print_config"),
}
"""Titles of the help, and the flags under each. A name that ends in a period stands for all flags with that start."""

HELP = {
    "trainer.max_steps": "Number of steps; -1 for no limit.",
    "trainer.max_time": "Time after which the run stops, as days:hours:minutes:seconds.",
    "trainer.default_root_dir": "Folder of all runs. A run writes to a new folder lightning_logs/version_N in it.",
    "trainer.val_check_interval": "Number of steps between validations.",
    "trainer.log_every_n_steps": "Number of steps between entries of the log (default: 50).",
    "trainer.gradient_clip_val": "Largest norm of the gradients; larger ones are scaled down (default: no limit).",
    "trainer.accumulate_grad_batches": "Number of batches whose gradients are averaged for a step (default: 1).",
    "trainer.accelerator": "Kind of device: auto, cpu, gpu, mps, and others.",
    "trainer.devices": "Number of devices, their indices as a list, or auto.",
    "trainer.strategy": "How several devices share the work, such as ddp.",
    "trainer.num_nodes": "Number of machines (default: 1).",
    "trainer.precision": (
        "Floating-point type: auto, 32-true, bf16-mixed, 16-mixed, or another one of Lightning. auto is bf16-mixed on "
        "hardware that computes in bf16, 16-mixed with loss scaling on older CUDA devices, and 32-true elsewhere."
    ),
    "ckpt_path": "Checkpoint to resume from; last is the newest one below the folder of all runs.",
    "seed_everything": "Seed of everything random except the data, whose seed is --data.seed.",
    "config": "YAML file with any of these flags; later flags and files override earlier ones.",
}
"""Help texts of Lightning's flags, whose own ones are those of its Python classes."""


class TrainingParser(PlainErrors, LightningArgumentParser):
    """A parser whose help shows the flags of this package and the usual ones of Lightning's trainer.

    Attributes:
        show_all: Whether the help also shows all other flags.
        program: Name of the program. Parsers of the settings of classes, which are made later, also need it.
    """

    show_all = False
    program = "train.py"
    class_names = {"--model.method": [kind.__name__ for kind in METHODS.values() if kind.trained]}  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("formatter_class", PlainFormatter)
        kwargs.setdefault("prog", self.program)
        super().__init__(*args, **kwargs)

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """Return the help: the subcommands, or the flags of one of them by topic."""
        program = self.prog.replace(" [options]", "")
        formatter = formatter or self._get_formatter()
        if self._subcommands_action:
            formatter.add_usage(f"{program} {{{','.join(COMMANDS)}}} [flags]", [], [])
            formatter.add_text(self.description)
            lines = [f"  {program} {name} --help: {summary}" for name, summary in COMMANDS.items()]
            return formatter.format_help() + "\n" + "\n".join(lines) + "\n"
        if not any(_matches(action, "model.method") for action in self._actions):
            return super().format_help()  # of the settings of a class
        formatter.add_usage(f"{program} --config FILE.yaml [flags]", [], [])
        formatter.add_text(COMMANDS.get(program.split()[-1], self.description))
        shown = set[int]()
        for action in self._actions:
            action.help = HELP.get(action.dest, action.help)
        for title, names in TOPICS.items():
            formatter.start_section(title)
            actions = [action for name in names for action in self._actions if _matches(action, name)]
            formatter.add_arguments(actions)
            shown.update(map(id, actions))
            formatter.end_section()
        others = [action for action in self._actions if id(action) not in shown]
        if self.show_all:
            formatter.start_section("All other flags of Lightning")
            formatter.add_arguments(others)
            formatter.end_section()
        else:
            formatter.add_text(
                f"{program} --help-all also lists {len(others)} other flags, most of them of Lightning's trainer. "
                "--model.method.help AdaIN lists the settings of a method."
            )
        return formatter.format_help()


def _matches(action: argparse.Action, name: str) -> bool:
    """Return whether a flag is in a topic: `name` is its own, or a prefix that ends in a period."""
    if not action.option_strings or action.option_strings[0].endswith(".help"):
        return False
    return action.dest == name or (name.endswith(".") and action.dest.startswith(name))
