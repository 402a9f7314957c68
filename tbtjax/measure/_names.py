"""Which model a result file is about, and after how many steps of training.

No format says both. They stand in the file's path or in the arguments that the model was loaded
with, such as `runs/llama-7b/checkpoint-500` or `pretrained=org/llama-7b,revision=step500`.
"""

import re
from typing import NamedTuple

from tbtjax.measure.trajectories import TrajectoryError

#: A step's word and number, not inside a longer word. Where a size comes later in the same part of
#: the path (step3-7b, step3-vl-10b), or a decimal point (step3.5), they are a model's name.
_STEP = re.compile(
    r"(?<![A-Za-z0-9])(?:global[-_]?steps?|steps?|checkpoint|ckpt|iter(?:ation)?s?)[-_=]?(\d+)"
    r"(?![A-Za-z0-9]|\.\d|[^/]*[-_.]\d+(?:\.\d+)?[bBmM](?![A-Za-z0-9]))"
)
#: Parts of a path that name no model.
_NO_MODEL = ("", ".", "..", "checkpoints", "checkpoint", "ckpts", "results", "eval", "evals")
#: The arguments that can name a model, the one that was trained first.
_ARGUMENTS = ("peft", "delta", "pretrained", "model", "path")


class Patterns(NamedTuple):
    """How steps and models are found.

    Attributes:
      step: a user's pattern with one group, or the usual words.
      model: a user's pattern with one group; None for the names in the file.
      default_step: the step of a file that names none; None to leave such files out.
    """

    step: re.Pattern[str] = _STEP
    model: re.Pattern[str] | None = None
    default_step: float | None = None

    def step_in(self, *texts: str) -> float | None:
        """The last step that the first text with one names; else the default.

        Raises:
          TrajectoryError: the user's pattern took something that is no number.
        """
        for text in texts:
            found = [match[1] for match in self.step.finditer(_as_path(text)) if match[1]]
            if found:
                try:
                    return float(found[-1].replace(",", "").replace("_", ""))
                except ValueError:
                    raise TrajectoryError(
                        f"--step-pattern {self.step.pattern!r} takes {found[-1]!r} in {text!r}; "
                        "expected a number of training steps"
                    ) from None
        return self.default_step

    def model_in(self, *texts: str) -> tuple[str, str]:
        """The model's name, and the whole of what names it, from the first text that does."""
        if self.model is not None:
            for text in texts:
                found = [match[1] for match in self.model.finditer(text) if match[1]]
                if found:
                    return found[-1], found[-1]
            return "", ""
        for text in texts:
            # The cache of the Hugging Face hub: models--org--name/snapshots/revision.
            whole = re.sub(r"(?:^|/)models--([^/]+?)--", r"/\1/", _as_path(text))
            whole = re.sub(r"/+snapshots(/.*)?$", "", whole)
            whole = self.step.sub(lambda match: "/" if "/" in match[0] else "", whole)
            parts = [part.strip(" -_.=") for part in whole.split("/")]
            parts = [part for part in parts if part.lower() not in _NO_MODEL]
            if parts:
                return parts[-1], "/".join(parts)
        return "", ""


def patterns(
    step_pattern: str | None, model_pattern: str | None, default_step: float | None
) -> Patterns:
    """The user's patterns.

    Raises:
      TrajectoryError: a pattern that is no regular expression with one group, or a negative step.
    """
    found = Patterns()
    if step_pattern is not None:
        found = found._replace(step=_compiled("--step-pattern", step_pattern))
    if model_pattern is not None:
        found = found._replace(model=_compiled("--model-pattern", model_pattern))
    if default_step is not None:
        if not 0 <= default_step < float("inf"):
            raise TrajectoryError(
                f"--default-step is {default_step:g}; expected a number of training steps, 0 or "
                "more"
            )
        found = found._replace(default_step=float(default_step))
    return found


def _compiled(option: str, text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise TrajectoryError(
            f"{option} is {text!r}, which is no regular expression: {error}"
        ) from error
    if pattern.groups != 1:
        raise TrajectoryError(
            f"{option} is {text!r}, with {pattern.groups} groups in parentheses; expected one, "
            r"around what is wanted, such as 'step_(\d+)'"
        )
    return pattern


def _as_path(text: str) -> str:
    """`text` with one kind of separator: lm-evaluation-harness writes __ for /."""
    return text.replace("\\", "/").replace("__", "/")


def argument_texts(model_args: object) -> tuple[str, ...]:
    """The texts in an lm-evaluation-harness file's model_args that name model and revision.

    Args:
      model_args: "pretrained=org/name,revision=step500" or a dict of the same.
    """
    if isinstance(model_args, str):
        pairs = (part.partition("=") for part in model_args.split(","))
        given = {key.strip(): value.strip() for key, _, value in pairs}
    elif isinstance(model_args, dict):
        given = {str(key): value for key, value in model_args.items()}
    else:
        return ()
    texts = [given[name] for name in _ARGUMENTS if given.get(name)]
    return tuple(text for text in texts if isinstance(text, str))


def revision(model_args: object) -> str:
    """The revision in model_args, "" without one."""
    if isinstance(model_args, dict):
        return str(model_args.get("revision") or "")
    found = re.search(r"(?:^|,)\s*revision=([^,]*)", str(model_args or ""))
    return found[1].strip() if found else ""
