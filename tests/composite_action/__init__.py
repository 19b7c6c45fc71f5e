"""Run a composite `action.yml` the way the Actions runner does, on this machine and with nothing but files.

    result = run_action("action", inputs={"mode": "verify", "path": "worker"}, workspace=workspace)
    result.ok, result.outputs["verified"], result.annotations, result.summary, result.log

An executor kinder than the runner lets a broken action pass its tests, so this one is as strict, and stricter where
the runner only warns. What it does was read from the runner's source (2.336) and is tested on its own:

* `action.yml` is loaded with every scalar a string, and refused where the runner's schema refuses it (a `run` step
  without `shell`, an unknown key, an expression that names a context which is not there).
* A step's environment is made from nothing: `PATH`, `HOME`, the runner's variables, the job's, the step's `env`. No
  `INPUT_*`, nothing of the developer's shell.
* Expressions have the runner's own coercions (`expressions`), compared with GitHub's library in the tests.
* Fresh `GITHUB_OUTPUT`, `_ENV`, `_PATH`, `_STEP_SUMMARY` files for each step, parsed strictly (`filecommands`).
* Workflow commands in the output, in both spellings, with masks and `stop-commands` (`commands`).
* `uses:` steps are handed to a recorder, so that a test can assert what would have been uploaded.
"""

from tests.composite_action.definition import Definition, DefinitionError
from tests.composite_action.execution import Result, StepResult, UsedAction, run_action
from tests.composite_action.expressions import ExpressionError, evaluate

__all__ = [
    "Definition",
    "DefinitionError",
    "ExpressionError",
    "Result",
    "StepResult",
    "UsedAction",
    "evaluate",
    "run_action",
]
