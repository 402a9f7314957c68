"""Leaderboard games and tune-before-test thresholds, vectorized in JAX.

The core is here: curves, costs and rewards make a game; from it follow just-overtake efforts, Nash
verdicts and the stabilizing threshold Δ*. Reading and fitting measured curves is in
`tbtjax.measure`, tables and figures in `tbtjax.report`.

The model is that of Chen, Zhang, Hardt, "Leaderboard Incentives: Model Rankings under Strategic
Post-Training" (arXiv 2603.08371).

The names are those of `tbtjax._api`, which is imported, and JAX with it, when one is asked for.
"""

from typing import TYPE_CHECKING

from tbtjax._version import __version__ as __version__

if TYPE_CHECKING:
    from tbtjax._api import *  # noqa: F403
else:

    def __getattr__(name):
        if name.startswith("_") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        from tbtjax import _api

        own = globals()
        own.update({public: getattr(_api, public) for public in _api.__all__})
        own["__all__"] = _api.__all__
        # Modules of the package, such as `tbtjax.curves`, are there too once they are imported.
        if name not in own:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        return own[name]

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
