"""What a page's cell computed, handed to the exercises of the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: How Jupyter marks the kind of a value that is kept with a notebook, but not shown in it.
KEPT = "application/papermill.record/"


def answers(**values: float | Sequence[float] | npt.NDArray[np.floating]) -> None:
    """Keep numbers with the notebook, for the exercises that ask for them; show nothing.

    Outside a Jupyter kernel, it does nothing.

    Parameters
    ----------
    **values
        A number or several, by the name by which an exercise asks for them.

    Raises
    ------
    ValueError
        If a value is not finite: nobody could give that answer.
    """
    from IPython import get_ipython
    from IPython.display import display

    for name, value in values.items():
        numbers = np.asarray(value, float).ravel()
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name}={value} is no answer: it must be finite.")
        if get_ipython() is not None:
            text = " ".join(f"{number:.12g}" for number in numbers)
            kept = {"name": name, "mime_prefix": KEPT}
            display({f"{KEPT}text/plain": text}, metadata={"scrapbook": kept}, raw=True)
