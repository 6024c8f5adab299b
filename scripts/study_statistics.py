"""Differences between two rows of the study, with intervals that speak of other trainings and of other samples.

A row has K trainings (seeds) and n samples; sample i has the same prompt and noise in all of them. So trainings and samples are
crossed, and both count: a difference that all trainings show on these samples may be luck of the samples, and one that all samples
show in these trainings luck of the trainings. Each has its margin, and the interval's half is the root of the sum of their squares
(a little too wide: what trainings and samples do together is in both).
"""
import dataclasses
import math
import statistics

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
           2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)
LEAST_PAIRS = 8


def student_quantile(freedom):
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.960 + 2.46 / freedom


def badness(better, mean):
    """What is compared of a mean: how far it lies from one where that is the aim."""
    return abs(mean - 1) if better == "near one" else mean


@dataclasses.dataclass
class Spread:
    """How much the difference between two rows varies from one training to another: standard deviation, degrees of freedom."""
    deviation: float
    freedom: int


@dataclasses.dataclass
class Difference:
    means: tuple  # of both rows, over all trainings
    of_seeds: list  # badness of the first row less that of the second, by training
    value: float  # their mean
    margin: float  # half of the 95 % interval; infinite when nothing is known of other trainings

    @property
    def low(self):
        return self.value - self.margin

    @property
    def high(self):
        return self.value + self.margin


def difference(of_seeds, better, spread=None):
    """of_seeds: for each training the pairs (x, y) of all samples, both in one order; None where a sample has no part. `spread` stands in
    for what a single training cannot say. Nothing when a training has too few pairs."""
    count = len(of_seeds[0])
    if any(len(pairs) != count for pairs in of_seeds):
        raise ValueError("trainings were measured on different numbers of samples")
    sums = [0.0] * count  # of each sample, over trainings: by how much it moves the difference
    values, means = [], []
    for pairs in of_seeds:
        present = [i for i, pair in enumerate(pairs) if None not in pair]
        if len(present) < LEAST_PAIRS:
            return None
        x, y = (statistics.fmean(pairs[i][side] for i in present) for side in (0, 1))
        values.append(badness(better, x) - badness(better, y))
        means.append((x, y))
        slopes = [-1 if better == "near one" and mean < 1 else 1 for mean in (x, y)]
        for i in present:
            sums[i] += (slopes[0] * (pairs[i][0] - x) - slopes[1] * (pairs[i][1] - y)) * count / len(present)
    seeds = len(of_seeds)
    of_samples = 1.960 * math.sqrt(sum((s / seeds) ** 2 for s in sums) / count / (count - 1))
    if seeds > 1:
        of_trainings = student_quantile(seeds - 1) * statistics.stdev(values) / math.sqrt(seeds)
    else:
        of_trainings = student_quantile(spread.freedom) * spread.deviation if spread else math.inf
    return Difference(tuple(map(statistics.fmean, zip(*means))), values, statistics.fmean(values), math.hypot(of_samples, of_trainings))


def spread_of(differences):
    """Of differences with several trainings each, all of one metric: the root of the mean variance. Nothing without any."""
    several = [d.of_seeds for d in differences if len(d.of_seeds) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return None
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
    return Spread(math.sqrt(squares / freedom), freedom)


def verdict(better, found):
    if math.isinf(found.margin):
        return "one training"
    if found.low <= 0 <= found.high:
        return "no difference"
    return "differs" if better == "neither" else "win" if (found.value > 0) == (better == "more") else "loss"
