"""Statistics of the last n bars, in two passes and without running sums.

A running sum remembers what has left it; these do not, so a value is a function of its own n bars alone, to
the last bit. The loops run over the lag outside and over the bars inside: each bar's sum is built oldest
value first, the compiler can still use vector instructions, and no order depends on where a row lies.

Each kernel fills `out` from `back` bars before a window's first answered row to the window's end; elsewhere
`out` is left as it was.
"""

import math

import numpy as np

from acmf_core.features.blocks import Layout
from acmf_core.features.compiled import FloatArray, compiled


@compiled
def total(x: FloatArray, at: Layout, back: int, n: int, out: FloatArray) -> None:
    """Sum of the last n values."""
    for k in range(len(at.heads)):
        first, end = at.offsets[k] + at.heads[k] - back, at.offsets[k + 1]
        sums = out[first:end]
        sums[:] = 0.0
        odd = n % 4
        for lag in range(n - 1, n - 1 - odd, -1):
            past = x[first - lag : end - lag]
            for i in range(len(sums)):
                sums[i] += past[i]
        for lag in range(n - 1 - odd, -1, -4):  # four at a time: the sums stay in a register, the order stays
            p, q = x[first - lag : end - lag], x[first - lag + 1 : end - lag + 1]
            r, s = x[first - lag + 2 : end - lag + 2], x[first - lag + 3 : end - lag + 3]
            for i in range(len(sums)):
                sums[i] = (((sums[i] + p[i]) + q[i]) + r[i]) + s[i]


@compiled
def mean(x: FloatArray, at: Layout, back: int, n: int, out: FloatArray) -> None:
    """Mean of the last n values."""
    total(x, at, back, n, out)
    for k in range(len(at.heads)):
        out[at.offsets[k] + at.heads[k] - back : at.offsets[k + 1]] /= n


@compiled
def variance(x: FloatArray, mean: FloatArray, at: Layout, back: int, n: int, out: FloatArray) -> None:
    """Mean squared deviation of the last n values from their mean (ddof 0)."""
    for k in range(len(at.heads)):
        first, end = at.offsets[k] + at.heads[k] - back, at.offsets[k + 1]
        sums, centre = out[first:end], mean[first:end]
        sums[:] = 0.0
        odd = n % 4
        for lag in range(n - 1, n - 1 - odd, -1):
            past = x[first - lag : end - lag]
            for i in range(len(sums)):
                d = past[i] - centre[i]
                sums[i] += d * d
        for lag in range(n - 1 - odd, -1, -4):
            p, q = x[first - lag : end - lag], x[first - lag + 1 : end - lag + 1]
            r, s = x[first - lag + 2 : end - lag + 2], x[first - lag + 3 : end - lag + 3]
            for i in range(len(sums)):
                a, b, c, d = p[i] - centre[i], q[i] - centre[i], r[i] - centre[i], s[i] - centre[i]
                sums[i] = (((sums[i] + a * a) + b * b) + c * c) + d * d
        sums /= n


@compiled
def deviation(variance: FloatArray, still: float, at: Layout, back: int, out: FloatArray) -> None:
    """Standard deviation; 0 where the variance is below `still`."""
    for k in range(len(at.heads)):
        for i in range(at.offsets[k] + at.heads[k] - back, at.offsets[k + 1]):
            out[i] = math.sqrt(variance[i]) if variance[i] >= still else 0.0


@compiled
def higher_moments(
    x: FloatArray, mean: FloatArray, at: Layout, n: int, third: FloatArray, fourth: FloatArray
) -> None:
    """Mean third and fourth powers of the deviations of the last n values from their mean."""
    for k in range(len(at.heads)):
        first, end = at.offsets[k] + at.heads[k], at.offsets[k + 1]
        cubes, quarts, centre = third[first:end], fourth[first:end], mean[first:end]
        cubes[:] = 0.0
        quarts[:] = 0.0
        for lag in range(n - 1, -1, -1):
            past = x[first - lag : end - lag]
            for i in range(len(cubes)):
                d = past[i] - centre[i]
                square = d * d
                cubes[i] += square * d
                quarts[i] += square * square
        cubes /= n
        quarts /= n


@compiled
def neighbour_products(x: FloatArray, mean: FloatArray, at: Layout, n: int, out: FloatArray) -> None:
    """Sum, over the n - 1 neighbouring pairs of the last n values, of the product of their deviations."""
    for k in range(len(at.heads)):
        first, end = at.offsets[k] + at.heads[k], at.offsets[k + 1]
        sums, centre = out[first:end], mean[first:end]
        sums[:] = 0.0
        for lag in range(n - 2, -1, -1):
            later, earlier = x[first - lag : end - lag], x[first - lag - 1 : end - lag - 1]
            for i in range(len(sums)):
                sums[i] += (later[i] - centre[i]) * (earlier[i] - centre[i])


@compiled
def highest(x: FloatArray, at: Layout, n: int, out: FloatArray) -> None:
    """Largest of the last n values."""
    for k in range(len(at.heads)):
        first, end = at.offsets[k] + at.heads[k], at.offsets[k + 1]
        top = out[first:end]
        top[:] = x[first:end]
        for lag in range(1, n):
            past = x[first - lag : end - lag]
            for i in range(len(top)):
                top[i] = past[i] if past[i] > top[i] else top[i]


@compiled
def lowest(x: FloatArray, at: Layout, n: int, out: FloatArray) -> None:
    """Smallest of the last n values."""
    for k in range(len(at.heads)):
        first, end = at.offsets[k] + at.heads[k], at.offsets[k + 1]
        bottom = out[first:end]
        bottom[:] = x[first:end]
        for lag in range(1, n):
            past = x[first - lag : end - lag]
            for i in range(len(bottom)):
                bottom[i] = past[i] if past[i] < bottom[i] else bottom[i]


@compiled
def percentile_rank(x: FloatArray, at: Layout, n: int, out: FloatArray) -> None:
    """Rank in [0, 1] of each value among the last n, itself included; ties share the middle.

    (#less + 0.5 (#equal - 1)) / (n - 1), counted as (#less + #less-or-equal - 1) / 2 / (n - 1).
    """
    for k in range(len(at.heads)):
        for i in range(at.offsets[k] + at.heads[k], at.offsets[k + 1]):
            level = x[i]
            recent = x[i - n + 1 : i + 1]
            count = np.int64(0)
            for j in range(n):
                count += np.int64(recent[j] < level) + np.int64(recent[j] <= level)
            out[i] = 0.5 * (count - 1) / (n - 1)


@compiled
def slope(changes: FloatArray, at: Layout, n: int, out: FloatArray) -> None:
    """Least-squares slope per bar of the last n levels, given the changes between them.

    The oldest of the n levels is taken as 0: a slope does not see it, and no history is needed.
    """
    spread = n * (n * n - 1) / 12.0  # sum of the squared deviations of 0..n-1 from their mean
    for k in range(len(at.heads)):
        first, end = at.offsets[k] + at.heads[k], at.offsets[k + 1]
        sums, level = out[first:end], np.zeros(end - first)
        sums[:] = 0.0
        for step in range(1, n):
            weight = step - (n - 1) / 2.0
            change = changes[first - (n - 1) + step : end - (n - 1) + step]
            for i in range(len(sums)):
                level[i] += change[i]
                sums[i] += weight * level[i]
        sums /= spread
