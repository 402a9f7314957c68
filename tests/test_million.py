"""A million random games of every class, both deviations, against the reference calculation.

    pytest -m slow -s tests/test_million.py        prints each block as it is done

Every block of games is solved and judged on its own, so memory stays small, and in many chunks, as
large batches are. A block of each class runs among the ordinary tests of thresholds, in one chunk.
"""

import jax
import numpy as np
import oracles
import pytest
from random_games import KINDS, random_games
from test_threshold import FLOAT32_BOUND, GAMES, MODELS, as_answer, as_game, costs_of_models

from tbtjax import stabilizing_threshold

# Number of models: games a block, blocks a class. 59,000 games a class, 1,003,000 in all. Blocks
# have the shape of the other tests' batches, so that their programs serve.
BLOCKS = {2: (GAMES, 25), MODELS: (GAMES, 33), 20: (500, 2)}
TOLERANCE = {"float64": 1e-9, "float32": FLOAT32_BOUND}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_million_games_agree_with_the_reference(precision, kind, many_chunks):
    """Statuses, levels and deciding pairs; or within what 4 ulps of the inputs make."""
    dtype = np.dtype(precision)
    wrong, count = [], 0
    for num_models, (size, blocks) in BLOCKS.items():
        for block in range(blocks):
            seed = 1_000 * num_models + block
            games = random_games(seed, size, num_models, kind, dtype)
            if block % 2:  # with a common cost, neighbours are all that fast roads look at
                games = costs_of_models(games)
            for deviations in ("all", "adjacent"):
                with jax.enable_x64(True):
                    threshold = stabilizing_threshold(as_game(games), deviations)
                    assert threshold.delta.dtype == dtype
                    answer = as_answer(threshold)
                found = oracles.disagreements(
                    games, answer, deviations, TOLERANCE[precision], dtype=dtype, most=size
                )
                wrong += [(num_models, seed, deviations, x) for x in found]
            count += size
            print(f"{kind} {precision}: {count} games, {len(wrong)} wrong", flush=True)
    assert wrong == []
