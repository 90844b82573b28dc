"""In which order the epochs of a training take the videos: a function of the seed and the epoch."""

from collections.abc import Sequence

import numpy as np

# What a random state is for; the first word behind the seed.
ORDER, CLIP, MIX = range(3)
# Processes ask for one batch after another, of one epoch and the next.
KEPT = 2


class ShuffledOrder:
    """Every epoch takes each of `total` videos once, in an order of its own. Call it with the number of an epoch."""

    def __init__(self, total: int, seed: int):
        self.total = total
        self.seed = seed
        self._orders: dict[int, np.ndarray] = {}

    def __call__(self, epoch: int) -> np.ndarray:
        """The indices of the videos in an epoch, one for each place."""
        if epoch not in self._orders:
            while len(self._orders) >= KEPT:
                del self._orders[min(self._orders)]
            self._orders[epoch] = self._order(epoch)
        return self._orders[epoch]

    def _order(self, epoch):
        return self._random(epoch).permutation(self.total)

    def _random(self, *purpose):
        return np.random.default_rng([self.seed, ORDER, *purpose])


class BalancedOrder(ShuffledOrder):
    """Every epoch has `total` places, which all classes share equally; `labels` has the class of each video.

    The places of all epochs together go to the classes in turn, and each class fills its places with one order of its
    videos after another. So no video is taken again before all others of its class were.
    """

    def __init__(self, labels: Sequence[int], seed: int):
        super().__init__(len(labels), seed)
        labels = np.asarray(labels)
        self._by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def _order(self, epoch):
        order = np.empty(self.total, np.int64)
        classes, first = len(self._by_class), epoch * self.total
        for number, videos in enumerate(self._by_class):
            places = np.arange((number - first) % classes, self.total, classes)
            rounds, within = np.divmod((first + places) // classes, len(videos))
            for round_ in np.unique(rounds):
                # A last word of 0 would be the same random state as none.
                shuffled = self._random(number, int(round_) + 1).permutation(videos)
                order[places[rounds == round_]] = shuffled[within[rounds == round_]]
        return self._random(epoch).permutation(order)
