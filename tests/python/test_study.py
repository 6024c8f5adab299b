"""Intervals of the toy study hold what they promise."""
import math
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import study_statistics as s


def trainings(rng, seeds, samples, of_training, of_sample, of_both):
    """Pairs whose difference is 0 over all trainings and samples."""
    shared = [rng.gauss(0, of_sample) for _ in range(samples)]
    out = []
    for _ in range(seeds):
        shift = rng.gauss(0, of_training)
        out.append([(shift + sample + rng.gauss(0, of_both), 0.0) for sample in shared])
    return out


class Interval(unittest.TestCase):
    def share_that_holds_zero(self, seeds, spread=None, **sizes):
        rng = random.Random(7)
        found = [s.difference(trainings(rng, seeds, 40, **sizes), "less", spread) for _ in range(600)]
        return sum(d.low <= 0 <= d.high for d in found) / len(found)

    def test_holds_the_truth_whatever_varies(self):
        for sizes in ({"of_training": 1, "of_sample": 0.1, "of_both": 0.1}, {"of_training": 0.01, "of_sample": 1, "of_both": 0.1},
                      {"of_training": 0.01, "of_sample": 0.1, "of_both": 1}, {"of_training": 0.2, "of_sample": 1, "of_both": 1}):
            for seeds in (2, 3):
                self.assertGreater(self.share_that_holds_zero(seeds, **sizes), 0.92, (seeds, sizes))

    def test_of_one_training_needs_the_spread_of_others(self):
        sizes = {"of_training": 1, "of_sample": 0.5, "of_both": 0.5}
        self.assertEqual(self.share_that_holds_zero(1, **sizes), 1)  # infinite
        self.assertGreater(self.share_that_holds_zero(1, s.Spread(1.0, 12), **sizes), 0.92)
        self.assertLess(self.share_that_holds_zero(1, s.Spread(0.1, 12), **sizes), 0.5)

    def test_finds_a_difference(self):
        pairs = [[(1 + 0.1 * (i % 3) + 0.01 * seed, 0.5) for i in range(30)] for seed in range(3)]
        found = s.difference(pairs, "more")
        self.assertAlmostEqual(found.value, 0.61)
        self.assertEqual([s.verdict(better, found) for better in ("more", "less", "neither")], ["win", "loss", "differs"])


class Difference(unittest.TestCase):
    def test_distance_from_one_is_taken_of_each_training(self):
        pairs = [[(0.8, 0.95)] * 10, [(1.2, 0.95)] * 10]
        self.assertAlmostEqual(s.difference(pairs, "near one").value, 0.15)

    def test_below_one_a_larger_value_is_nearer(self):
        pairs = [[(0.7 + 0.01 * (i % 2), 0.6) for i in range(20)] for _ in range(2)]
        found = s.difference(pairs, "near one")
        self.assertAlmostEqual(found.value, -0.105)
        self.assertEqual(s.verdict("near one", found), "win")

    def test_leaves_out_samples_without_a_part(self):
        pairs = [[(1.0, 0.0)] * 9 + [(None, 5.0), (7.0, None)]] * 2
        self.assertEqual(s.difference(pairs, "less").value, 1)
        self.assertIsNone(s.difference([[(1.0, 0.0)] * 7 + [(None, 1.0)] * 9], "less"))

    def test_refuses_other_numbers_of_samples(self):
        with self.assertRaises(ValueError):
            s.difference([[(1.0, 0.0)] * 9, [(1.0, 0.0)] * 8], "less")


class Spread(unittest.TestCase):
    def test_is_the_root_of_the_mean_variance(self):
        of = [s.Difference((0, 0), values, 0, 0) for values in ([1, 2, 3], [0, 0, 6], [5])]
        found = s.spread_of(of)
        self.assertEqual(found.freedom, 4)
        self.assertAlmostEqual(found.deviation, math.sqrt((1 * 2 + 12 * 2) / 4))
        self.assertIsNone(s.spread_of(of[2:]))


if __name__ == "__main__":
    unittest.main()
