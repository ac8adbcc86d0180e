# ruff: noqa: ANN001, ANN201, D103, ERA001, PLR0917 - Triton's language, not Python: arguments have no types here
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Crossing attention, forward: out_c = softmax(scale [q . K^T ; q . k_self]) [V ; v_self], ragged requests.

The plain form is `training.ops.naive.crossing_attention`. One program holds BM rows (candidate, query head) of one
request that share a key-value head, and walks the request's history once. The self token seeds the online
softmax (m = q . k_self, l = 1, acc = v_self): exact, no merge with a second kernel, and an empty history
is no special case. Small batches split the history over programs; part 0 carries the self token.

Legend: i_ program index, o_ offsets, m_ masks, p_ pointer offsets, b_ blocks in registers.
q, out [C, G * REP, D]; k_self, v_self [C, G, D]; k, v [T, G, D] or pages [P * PAGE, G, D]; lse [G * REP, C].
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def load_rows(
    x, table, start, n, end, i_g, stride, D: tl.constexpr, BN: tl.constexpr, PAGE: tl.constexpr, TMA: tl.constexpr,
    TAIL: tl.constexpr
):  # fmt: skip
    """Tokens n to n + BN of a history as [BN, D]; in a tail, zeros past `end`: 0 times a neighbour's NaN is NaN."""
    o_n = n + tl.arange(0, BN)
    if TMA:
        b_x = x.load([start + n, i_g * D])
        if TAIL:
            b_x = tl.where((o_n < end)[:, None], b_x, 0.0)
    else:
        if PAGE:
            o_row = tl.load(table + o_n // PAGE, mask=o_n < end, other=0).to(tl.int64) * PAGE + o_n % PAGE
        else:
            o_row = (start + o_n).to(tl.int64)
        p_x = o_row[:, None] * stride + i_g * D + tl.arange(0, D)[None, :]
        b_x = tl.load(x + p_x, mask=(o_n < end)[:, None], other=0.0) if TAIL else tl.load(x + p_x)
    return b_x


@triton.jit
def softmax_step(b_s, b_v, b_m, b_l, b_acc, scale_log2, PRECISION: tl.constexpr):
    """Fold scores [BM, BN] and values [BN, D] into the running maximum, sum and output."""
    b_new = tl.maximum(b_m, tl.max(b_s, 1) * scale_log2)
    b_p = tl.exp2(b_s * scale_log2 - b_new[:, None])
    b_a = tl.exp2(b_m - b_new)
    b_l = b_l * b_a + tl.sum(b_p, 1)
    b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_a[:, None], input_precision=PRECISION)
    return b_new, b_l, b_acc


@triton.jit(do_not_specialize=["C", "table_stride"])
def crossing_forward_kernel(
    q, k_self, v_self, k, v, out, lse, context_starts, candidate_starts, tiles, page_table,
    stride_q, stride_k_self, stride_v_self, stride_k, stride_v, table_stride, C, scale,
    G: tl.constexpr, REP: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    SPLITS: tl.constexpr, PAGE: tl.constexpr, TMA: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # heads inside tiles: the programs that run together read the same history
    i_t, i_g = tl.program_id(0) // G, tl.program_id(0) % G
    i_s = tl.program_id(1)
    scale_log2 = tl.full([], scale, tl.float32) * LOG2E  # Inductor hands Python floats over as fp64
    i_r = tl.load(tiles + i_t * 2)
    c0 = tl.load(candidate_starts + i_r) + tl.load(tiles + i_t * 2 + 1)
    c1 = tl.load(candidate_starts + i_r + 1)
    start = tl.load(context_starts + i_r)
    length = tl.load(context_starts + i_r + 1) - start

    o_m, o_d = tl.arange(0, BM), tl.arange(0, D)
    o_c, o_h = c0 + o_m // REP, i_g * REP + o_m % REP
    m_c = o_c < c1
    o_c64 = o_c.to(tl.int64)[:, None]
    # [BM, D]
    b_q = tl.load(q + o_c64 * stride_q + o_h[:, None] * D + o_d[None, :], mask=m_c[:, None], other=0.0)

    if SPLITS == 1:
        first, last = 0, length
    else:
        part = tl.cdiv(tl.cdiv(length, BN), SPLITS) * BN
        first = i_s * part
        last = tl.minimum(first + part, length)
    p_self = i_g * D + o_d[None, :]
    b_ks = tl.load(k_self + o_c64 * stride_k_self + p_self, mask=m_c[:, None], other=0.0)
    b_m = tl.sum(b_q.to(tl.float32) * b_ks.to(tl.float32), 1) * scale_log2
    b_l = tl.full([BM], 1.0, tl.float32)
    b_acc = tl.load(v_self + o_c64 * stride_v_self + p_self, mask=m_c[:, None], other=0.0).to(tl.float32)
    if SPLITS > 1:
        b_m = tl.where(i_s == 0, b_m, float("-inf"))
        b_l = tl.where(i_s == 0, b_l, 0.0)
        b_acc = tl.where(i_s == 0, b_acc, 0.0)

    table = page_table
    if PAGE:
        table += i_r.to(tl.int64) * table_stride
    full = first + tl.maximum(last - first, 0) // BN * BN
    for n in tl.range(first, full, BN):
        b_k = load_rows(k, table, start, n, last, i_g, stride_k, D, BN, PAGE, TMA, False)
        b_s = tl.dot(b_q, b_k.T, input_precision=PRECISION)
        b_v = load_rows(v, table, start, n, last, i_g, stride_v, D, BN, PAGE, TMA, False)
        b_m, b_l, b_acc = softmax_step(b_s, b_v, b_m, b_l, b_acc, scale_log2, PRECISION)
    if full < last:
        b_k = load_rows(k, table, start, full, last, i_g, stride_k, D, BN, PAGE, TMA, True)
        b_s = tl.dot(b_q, b_k.T, input_precision=PRECISION)
        b_s = tl.where((full + tl.arange(0, BN) < last)[None, :], b_s, float("-inf"))
        b_v = load_rows(v, table, start, full, last, i_g, stride_v, D, BN, PAGE, TMA, True)
        b_m, b_l, b_acc = softmax_step(b_s, b_v, b_m, b_l, b_acc, scale_log2, PRECISION)

    HEADS: tl.constexpr = G * REP
    p_out = (i_s * C + o_c64) * HEADS * D + o_h[:, None] * D + o_d[None, :]
    p_lse = (i_s * HEADS + o_h).to(tl.int64) * C + o_c
    b_safe = b_l if SPLITS == 1 else tl.where(b_l > 0, b_l, 1.0)  # a part without tokens: zero output, lse -inf
    tl.store(out + p_out, (b_acc / b_safe[:, None]).to(out.dtype.element_ty), mask=m_c[:, None])
    tl.store(lse + p_lse, (b_m + tl.log2(b_l)) * LN2, mask=m_c)


@triton.jit(do_not_specialize=["rows", "C"])
def merge_splits_kernel(
    part_out, part_lse, out, lse, rows, C, H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, SPLITS: tl.constexpr
):  # fmt: skip
    """out, lse of [SPLITS, C, H, D] and [SPLITS, H, C] parts, in order of the parts: same input, same bits."""
    o_r, o_d = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D)
    m_r = o_r < rows
    p_lse = (o_r % H).to(tl.int64) * C + o_r // H
    b_m = tl.load(part_lse + p_lse, mask=m_r, other=0.0)  # part 0 holds the self token: never -inf
    for i_s in range(1, SPLITS):
        b_m = tl.maximum(b_m, tl.load(part_lse + i_s * (H * C) + p_lse, mask=m_r, other=0.0))
    b_l = tl.zeros([BM], tl.float32)
    b_acc = tl.zeros([BM, D], tl.float32)
    for i_s in range(SPLITS):
        b_w = tl.exp2((tl.load(part_lse + i_s * (H * C) + p_lse, mask=m_r, other=0.0) - b_m) * LOG2E)
        p_x = (i_s * rows + o_r).to(tl.int64)[:, None] * D + o_d[None, :]
        b_acc += b_w[:, None] * tl.load(part_out + p_x, mask=m_r[:, None], other=0.0)
        b_l += b_w
    p_out = o_r.to(tl.int64)[:, None] * D + o_d[None, :]
    tl.store(out + p_out, (b_acc / b_l[:, None]).to(out.dtype.element_ty), mask=m_r[:, None])
    tl.store(lse + p_lse, b_m + tl.log2(b_l) * LN2, mask=m_r)
