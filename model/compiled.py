"""Training steps on a CPU, compiled: what a stage's `forward`, autograd and Adam do, without a call for each operation.

Reads and writes nothing but the arrays that it is given. The networks are so small that a step's hundred calls, and
what each of them leaves in memory for the next, take longer than the products. `learn` takes one run through many steps
before the next run, so that its weights stay near the processor, moves each weight as soon as its gradient is there,
and leaves Python's lock to other threads. The gradients are written out by hand; the tests hold them against
autograd's, for every stage and setting.

One file: numba compiles again when this file has changed, and looks at no other.

Shapes as in `model.networks`: R runs, B rows, H hidden units; S steps. Weights and features are float32 (the tests also
use float64: with its rounding, the corners of |x| and LeakyReLU do not part two trainings that are the same).
"""

from collections import namedtuple

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  numba's matrix product; loaded here, so that its threads can be limited
from numba import njit

NIL, ONE = np.float32(0), np.float32(1)
SLOPE, EPSILON = np.float32(0.01), np.float32(1e-5)  # of LeakyReLU and LayerNorm, as in `model.networks`
BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, np.float32(1e-8)
OLD2, NEW1, NEW2 = np.float32(BETA2), np.float32(1 - BETA1), np.float32(1 - BETA2)

# The parameters of a StackedMLP by their names, (R, ., .); no inputs in `skip_weight` where there is no linear path.
Layers = namedtuple("Layers", "weight1 weight2 weight3 skip_weight bias1 scale1 shift1 bias2 scale2 shift2 bias3")
# A network that learns: four times `Layers`. Averages have no runs where none are kept, nor anything of a network that
# a stage has not.
Learner = namedtuple("Learner", "weights means squares averages")
# The weights of the parts of a stage's loss; see `model.stages.Wiring`.
Aims = namedtuple("Aims", "task reconstruction latent relative imitation temperature")
# `inputs` (R * N, F); `columns`: where in it the features of the encoder begin, and the student's. `index`, rows of
# `inputs`, `classes` or `values` (the other is empty) and `weight`: (S, R, B). `latent`, `answer`: frozen, (R * N, .).
Data = namedtuple("Data", "inputs columns index classes values weight latent answer")
# Dropout: `draws` (R, masks, B * width), int16, empty where nothing is dropped; see `model.networks.Dropout.draws`. A
# step takes `each` masks, and begins with its `first` one.
Masks = namedtuple("Masks", "draws threshold scale each first")
# Adam's learning rate and weight decay, the number of steps already made, and the decay of the averages or 0.
Pace = namedtuple("Pace", "learning_rate weight_decay steps averaging")

# What one network's step needs: its input, what the way back needs of the way forth, its output, and gradients.
_Work = namedtuple("_Work", "x kept spread out d_out d_second d_first d_x grad1 grad2 grad3 grad_skip grad_rows")
_Move = namedtuple("_Move", "size root shrink")

# Sums are taken in any order, so that they can be taken in vectors; but what is no number stays none, as losses tell.
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
# Called from compiled code alone, and put into it whole: else the process that compiles would run other copies of them
# than those that find `learn` in the cache, with other rounding.
_inner = njit(forceinline=True, no_cpython_wrapper=True, **_OPTIONS)


@njit(**_OPTIONS)
def learn(encoder, head, student, aims, data, hidden, encoder_input, student_input, pace, losses):
    """Train each run for S steps; add the mean of each step's loss to `losses` (R,), float64.

    Networks: the encoder, perhaps a head (or decoder) on top of it, perhaps a student beside it.
    """
    steps, runs, rows = data.index.shape
    has_head, has_student = head.weights.weight1.shape[0] > 0, student.weights.weight1.shape[0] > 0
    of_encoder, of_head, of_student = _work(encoder, rows, 0), _work(head, rows, rows), _work(student, rows, 0)
    first, student_first = data.columns
    plain = np.empty_like(of_encoder.x) if aims.reconstruction > 0 else of_encoder.x
    latent = np.empty_like(of_encoder.out)
    for run in range(runs):
        for step in range(steps):
            index, weight = data.index[step, run], data.weight[step, run]
            move = _move_of(pace, step)
            mask = hidden.each * step
            loss = NIL

            _take(data.inputs, index, first, of_encoder.x)
            _drop(encoder_input, run, step, of_encoder.x)
            _forward(encoder.weights, run, hidden, mask, of_encoder)
            if has_student:
                _take(data.inputs, index, student_first, of_student.x)
                _drop(student_input, run, step, of_student.x)
                _forward(student.weights, run, hidden, mask + 2, of_student)
            z = of_encoder.out
            d_z = of_encoder.d_out
            d_z.fill(NIL)

            if has_head:
                _copy(z, of_head.x)
                _forward(head.weights, run, hidden, mask + 2 + 2 * has_student, of_head)
                y, d_y = of_head.out, of_head.d_out
                d_y.fill(NIL)
                if aims.reconstruction > 0:
                    _take(data.inputs, index, first, plain)
                    loss += _distance(y, plain, weight, aims.reconstruction, d_y)
                if aims.task > 0:
                    if data.classes.shape[0] > 0:
                        loss += _cross_entropy(y, data.classes[step, run], weight, aims.task, d_y)
                    else:
                        loss += _absolute_error(y, data.values[step, run], weight, aims.task, d_y)
                if aims.imitation > 0:
                    if data.classes.shape[0] > 0:
                        loss += _divergence(y, data.answer, index, weight, aims, d_y)
                    else:
                        loss += _imitated_value(y, data.answer, index, weight, aims, d_y)
                _backward(head, run, move, of_head)
                _add(d_z, of_head.d_x)

            if has_student:
                alpha = aims.latent / _size(z) if aims.relative else aims.latent
                d_student = of_student.d_out
                d_student.fill(NIL)
                loss += _distance(of_student.out, z, weight, alpha, d_student)
                _backward(student, run, move, of_student)
            elif aims.latent > 0:
                _take(data.latent, index, 0, latent)
                alpha = aims.latent / _size(latent) if aims.relative else aims.latent
                loss += _distance(z, latent, weight, alpha, d_z)
            _backward(encoder, run, move, of_encoder)

            if pace.averaging > 0:
                share = np.float32(max(1 / (pace.steps + step + 1), 1 - pace.averaging))
                _average(encoder, run, share)
                if has_head:
                    _average(head, run, share)
                if has_student:
                    _average(student, run, share)
            losses[run] += loss


@_inner
def _work(learner, rows, rows_back):
    """The arrays that one network needs for a step of one run; `rows_back`: whose gradients go on to its input."""
    _, inputs, hidden = learner.weights.weight1.shape
    outputs, dtype = learner.weights.weight3.shape[2], learner.weights.weight1.dtype
    return _Work(
        np.empty((rows, inputs), dtype),
        np.empty((2, 3, rows, hidden), dtype),
        np.empty((2, rows), dtype),
        np.empty((rows, outputs), dtype),
        np.empty((rows, outputs), dtype),
        np.empty((rows, hidden), dtype),
        np.empty((rows, hidden), dtype),
        np.empty((rows_back, inputs), dtype),
        np.empty((inputs, hidden), dtype),
        np.empty((hidden, hidden), dtype),
        np.empty((hidden, outputs), dtype),
        np.empty((learner.weights.skip_weight.shape[1], outputs), dtype),
        np.empty((7, max(hidden, outputs)), dtype),
    )


@_inner
def _take(table, index, first, out):
    """Rows of `table` from column `first` on, to `out` (B, width)."""
    rows, width = out.shape
    for i in range(rows):
        row = index[i]
        for j in range(width):
            out[i, j] = table[row, first + j]


@_inner
def _drop(masks, run, step, x):
    """Dropout of the features `x` (B, width)."""
    if masks.draws.shape[0] == 0:
        return
    rows, width = x.shape
    draws = masks.draws[run, masks.each * step + masks.first]
    for i in range(rows):
        for j in range(width):
            x[i, j] *= masks.scale if draws[i * width + j] >= masks.threshold else NIL


@_inner
def _forward(layers, run, masks, mask, work):
    """From `work.x` (B, inputs) to `work.out` (B, outputs); keeps what `_backward` needs."""
    h = work.d_first  # not needed before the way back
    kept, spread, out = work.kept, work.spread, work.out
    np.dot(work.x, layers.weight1[run], h)
    _block(h, layers.bias1[run, 0], layers.scale1[run, 0], layers.shift1[run, 0], masks, run, mask, kept[0], spread[0])
    np.dot(kept[0, 2], layers.weight2[run], h)
    _block(
        h, layers.bias2[run, 0], layers.scale2[run, 0], layers.shift2[run, 0], masks, run, mask + 1, kept[1], spread[1]
    )
    np.dot(kept[1, 2], layers.weight3[run], out)
    if layers.skip_weight.shape[1] > 0:
        _add(out, np.dot(work.x, layers.skip_weight[run]))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] += layers.bias3[run, 0, j]


@_inner
def _block(h, bias, scale, shift, masks, run, mask, kept, spread):
    """LeakyReLU, Dropout, LayerNorm of `h` (B, H). Keeps slope times dropout, the normalised units, and the output."""
    rows, width = h.shape
    gate, normal, output = kept[0], kept[1], kept[2]
    dropped = masks.draws.shape[0] > 0
    share = ONE / np.float32(width)
    for i in range(rows):
        total, square = NIL, NIL
        for j in range(width):
            value = h[i, j] + bias[j]
            slope = ONE if value > 0 else SLOPE
            if dropped:
                slope *= masks.scale if masks.draws[run, mask, i * width + j] >= masks.threshold else NIL
            value *= slope
            gate[i, j] = slope
            normal[i, j] = value
            total += value
        mean = total * share
        for j in range(width):
            apart = normal[i, j] - mean
            square += apart * apart
        spread[i] = ONE / np.sqrt(square * share + EPSILON)
        for j in range(width):
            value = (normal[i, j] - mean) * spread[i]
            normal[i, j] = value
            output[i, j] = value * scale[j] + shift[j]


@_inner
def _backward(learner, run, move, work):
    """From `work.d_out` to the gradients, by which the weights of `run` are moved, and to `work.d_x`."""
    weights, means, squares = learner.weights, learner.means, learner.squares
    x, kept, d_out, d_first, d_second, rows = work.x, work.kept, work.d_out, work.d_first, work.d_second, work.grad_rows
    goes_on, skips = work.d_x.shape[0] > 0, weights.skip_weight.shape[1] > 0

    np.dot(d_out, weights.weight3[run].T, d_second)
    np.dot(kept[1, 2].T, d_out, work.grad3)
    _column_sums(d_out, rows[6])
    _unblock(d_second, weights.scale2[run, 0], kept[1], work.spread[1], rows[3:6])
    np.dot(d_second, weights.weight2[run].T, d_first)
    np.dot(kept[0, 2].T, d_second, work.grad2)
    _unblock(d_first, weights.scale1[run, 0], kept[0], work.spread[0], rows[:3])
    if goes_on:
        np.dot(d_first, weights.weight1[run].T, work.d_x)
    if skips:
        if goes_on:
            _add(work.d_x, np.dot(d_out, weights.skip_weight[run].T))
        np.dot(x.T, d_out, work.grad_skip)
    np.dot(x.T, d_first, work.grad1)

    _move(weights.weight1, means.weight1, squares.weight1, run, work.grad1.reshape(-1), move, move.shrink)
    _move(weights.weight2, means.weight2, squares.weight2, run, work.grad2.reshape(-1), move, move.shrink)
    _move(weights.weight3, means.weight3, squares.weight3, run, work.grad3.reshape(-1), move, move.shrink)
    if skips:
        gradient = work.grad_skip.reshape(-1)
        _move(weights.skip_weight, means.skip_weight, squares.skip_weight, run, gradient, move, move.shrink)
    _move(weights.bias1, means.bias1, squares.bias1, run, rows[0], move, ONE)
    _move(weights.scale1, means.scale1, squares.scale1, run, rows[1], move, ONE)
    _move(weights.shift1, means.shift1, squares.shift1, run, rows[2], move, ONE)
    _move(weights.bias2, means.bias2, squares.bias2, run, rows[3], move, ONE)
    _move(weights.scale2, means.scale2, squares.scale2, run, rows[4], move, ONE)
    _move(weights.shift2, means.shift2, squares.shift2, run, rows[5], move, ONE)
    _move(weights.bias3, means.bias3, squares.bias3, run, rows[6], move, ONE)


@_inner
def _unblock(d, scale, kept, spread, sums):
    """The way back through `_block`: `d` (B, H) becomes the gradient of its input; `sums` of bias, scale, shift."""
    rows, width = d.shape
    gate, normal = kept[0], kept[1]
    d_bias, d_scale, d_shift = sums[0], sums[1], sums[2]
    share = ONE / np.float32(width)
    sums.fill(NIL)
    for i in range(rows):
        mean, along = NIL, NIL
        for j in range(width):
            value = d[i, j]
            d_scale[j] += value * normal[i, j]
            d_shift[j] += value
            value *= scale[j]
            d[i, j] = value
            mean += value
            along += value * normal[i, j]
        mean *= share
        along *= share
        for j in range(width):
            value = (d[i, j] - mean - normal[i, j] * along) * spread[i] * gate[i, j]
            d[i, j] = value
            d_bias[j] += value


@_inner
def _column_sums(table, sums):
    sums.fill(NIL)
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            sums[j] += table[i, j]


@_inner
def _move_of(pace, step):
    """Adam's step: its size, what the second moment's root is multiplied by, and what weights shrink by."""
    count = pace.steps + step + 1
    size, root = pace.learning_rate / (1 - BETA1**count), 1 / np.sqrt(1 - BETA2**count)
    shrink = 1 - pace.learning_rate * pace.weight_decay
    return _Move(np.float32(size), np.float32(root), np.float32(shrink))


@_inner
def _move(weights, means, squares, run, gradient, move, shrink):
    """One step of AdamW for one array of one run; all of `gradient` that the array has room for."""
    weight, mean, square = weights[run].reshape(-1), means[run].reshape(-1), squares[run].reshape(-1)
    for i in range(weight.size):
        g = gradient[i]
        m = mean[i] + (g - mean[i]) * NEW1
        s = square[i] * OLD2 + g * g * NEW2
        mean[i], square[i] = m, s
        weight[i] = weight[i] * shrink - move.size * m / (np.sqrt(s) * move.root + ADAM_EPSILON)


@_inner
def _copy(other, to):
    for i in range(to.shape[0]):
        for j in range(to.shape[1]):
            to[i, j] = other[i, j]


@_inner
def _add(to, other):
    for i in range(to.shape[0]):
        for j in range(to.shape[1]):
            to[i, j] += other[i, j]


@_inner
def _average(learner, run, share):
    for number in range(11):
        size = learner.weights[number][run].size
        mean, weight = learner.averages[number][run].reshape(size), learner.weights[number][run].reshape(size)
        for i in range(size):
            mean[i] += (weight[i] - mean[i]) * share


@_inner
def _size(z):
    """The mean |z|."""
    total = NIL
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            total += abs(z[i, j])
    return total / np.float32(z.size)


@_inner
def _distance(a, b, weight, factor, d_a):
    """`factor` times the rows' weighted mean |a - b|; adds its gradient to `d_a`."""
    loss = NIL
    rows, width = a.shape
    for i in range(rows):
        total = NIL
        unit = np.float32(factor * weight[i] / width)
        for j in range(width):
            apart = a[i, j] - b[i, j]
            total += abs(apart)
            d_a[i, j] += unit if apart > 0 else (-unit if apart < 0 else NIL)
        loss += total * unit
    return loss


@_inner
def _absolute_error(y, values, weight, factor, d_y):
    loss = NIL
    for i in range(y.shape[0]):
        apart, unit = y[i, 0] - values[i], np.float32(factor * weight[i])
        loss += abs(apart) * unit
        d_y[i, 0] += unit * np.sign(apart)
    return loss


@_inner
def _cross_entropy(y, classes, weight, factor, d_y):
    loss = NIL
    for i in range(y.shape[0]):
        unit, own = np.float32(factor * weight[i]), classes[i]
        total = _log_sum(y[i], ONE)
        loss += (total - y[i, own]) * unit
        for j in range(y.shape[1]):
            d_y[i, j] += np.exp(y[i, j] - total) * unit
        d_y[i, own] -= unit
    return loss


@_inner
def _log_sum(y, temperature):
    """The logarithm of the sum of exp(y / temperature)."""
    top, total = y[0], NIL
    for j in range(y.size):
        top = max(top, y[j])
    top /= temperature
    for j in range(y.size):
        total += np.exp(y[j] / temperature - top)
    return top + np.log(total)


@_inner
def _divergence(y, answer, index, weight, aims, d_y):
    """a T^2 KL(softmax(y / T), softmax(answer / T)), equation 5."""
    loss, t = NIL, np.float32(aims.temperature)
    for i in range(y.shape[0]):
        other = answer[index[i]]
        unit = np.float32(aims.imitation * weight[i])
        own_total, other_total = _log_sum(y[i], t), _log_sum(other, t)
        for j in range(y.shape[1]):
            log_u, log_m = y[i, j] / t - own_total, other[j] / t - other_total
            loss += unit * t * t * np.exp(log_m) * (log_m - log_u)
            d_y[i, j] += unit * t * (np.exp(log_u) - np.exp(log_m))
    return loss


@_inner
def _imitated_value(y, answer, index, weight, aims, d_y):
    """a |y / T - answer / T|, equation 6."""
    loss = NIL
    for i in range(y.shape[0]):
        unit = np.float32(aims.imitation * weight[i] / aims.temperature)
        apart = y[i, 0] - answer[index[i], 0]
        loss += abs(apart) * unit
        d_y[i, 0] += unit * np.sign(apart)
    return loss
