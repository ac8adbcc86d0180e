# ruff: noqa: ANN001, ANN201, D103, ERA001, PLR0917 - Triton's language, not Python: arguments have no types here
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Crossing attention, backward, without atomics: the same input gives the same bits.

rows       program = (tile of rows, key-value head): dq, dk_self, dv_self and delta = rowsum(do * out) - dlse.
           With ONE, a request that has one tile writes its dK and dV on the same walk over the history: one
           pass, five products instead of seven. With SOME, not every request of the batch has one tile alone.
           (Adding dq up by atomics instead lost 3 to 25 %.)
columns    program = (tile of history tokens, key-value head): dK and dV, walking the request's rows.

Legend as in `crossing_forward`. lse, delta [G * REP, C]; dk, dv [T, G, D] and the other gradients contiguous.
"""

import triton
import triton.language as tl

from training.ops.kernels.crossing_forward import LOG2E, load_rows


@triton.jit
def row_step(
    b_q, b_do, b_lse, b_delta, b_dq, k, v, dk, dv, start, n, length, i_g, stride_k, stride_v, scale_log2,
    G: tl.constexpr, D: tl.constexpr, BN: tl.constexpr, TMA: tl.constexpr, ONE: tl.constexpr,
    PRECISION: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    """Tokens n to n + BN: their share of dq, and with ONE their dK and dV."""
    b_k = load_rows(k, None, start, n, length, i_g, stride_k, D, BN, 0, TMA, TAIL)
    b_v = load_rows(v, None, start, n, length, i_g, stride_v, D, BN, 0, TMA, TAIL)
    b_s = tl.dot(b_q, b_k.T, input_precision=PRECISION)
    b_dp = tl.dot(b_do, b_v.T, input_precision=PRECISION)
    b_p = tl.exp2(b_s * scale_log2 - b_lse[:, None])
    o_n = n + tl.arange(0, BN)
    if TAIL:
        b_p = tl.where((o_n < length)[None, :], b_p, 0.0)  # exp2(0 - lse) may be infinite
    b_ds = (b_p * (b_dp - b_delta[:, None])).to(b_k.dtype)
    b_dq = tl.dot(b_ds, b_k, b_dq, input_precision=PRECISION)
    if ONE:
        b_dv = tl.dot(b_p.to(b_do.dtype).T, b_do, input_precision=PRECISION)
        b_dk = tl.dot(b_ds.T, b_q, input_precision=PRECISION) * (scale_log2 / LOG2E)
        p_n = (start + o_n).to(tl.int64)[:, None] * (G * D) + i_g * D + tl.arange(0, D)[None, :]
        if TAIL:
            tl.store(dk + p_n, b_dk.to(dk.dtype.element_ty), mask=(o_n < length)[:, None])
            tl.store(dv + p_n, b_dv.to(dv.dtype.element_ty), mask=(o_n < length)[:, None])
        else:
            tl.store(dk + p_n, b_dk.to(dk.dtype.element_ty))
            tl.store(dv + p_n, b_dv.to(dv.dtype.element_ty))
    return b_dq


@triton.jit
def row_walk(
    b_q, b_do, b_lse, b_delta, b_dq, k, v, dk, dv, start, length, i_g, stride_k, stride_v, scale_log2,
    G: tl.constexpr, D: tl.constexpr, BN: tl.constexpr, TMA: tl.constexpr, ONE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq of a tile of rows over the whole history."""
    full = length // BN * BN
    for n in tl.range(0, full, BN):
        b_dq = row_step(
            b_q, b_do, b_lse, b_delta, b_dq, k, v, dk, dv, start, n, length, i_g, stride_k, stride_v, scale_log2,
            G, D, BN, TMA, ONE, PRECISION, False,
        )  # fmt: skip
    if full < length:
        b_dq = row_step(
            b_q, b_do, b_lse, b_delta, b_dq, k, v, dk, dv, start, full, length, i_g, stride_k, stride_v, scale_log2,
            G, D, BN, TMA, ONE, PRECISION, True,
        )  # fmt: skip
    return b_dq


@triton.jit
def sum_heads(b_x, BM: tl.constexpr, REP: tl.constexpr, D: tl.constexpr):
    """[BM, D] rows (candidate, head) summed over the heads: [BM / REP, D]."""
    if REP > 1:
        b_x = tl.sum(tl.reshape(b_x, [BM // REP, REP, D]), 1)
    return b_x


@triton.jit(do_not_specialize=["C"])
def crossing_rows_kernel(
    q, k_self, v_self, k, v, out, do, lse, dlse, delta, dq, dk_self, dv_self, dk, dv,
    context_starts, candidate_starts, tiles,
    stride_q, stride_k_self, stride_v_self, stride_k, stride_v, C, scale,
    G: tl.constexpr, REP: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    TMA: tl.constexpr, ONE: tl.constexpr, SOME: tl.constexpr, HAS_DLSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    i_t, i_g = tl.program_id(0) // G, tl.program_id(0) % G
    scale_log2 = tl.full([], scale, tl.float32) * LOG2E
    i_r = tl.load(tiles + i_t * 2)
    c0 = tl.load(candidate_starts + i_r)
    c1 = tl.load(candidate_starts + i_r + 1)
    rows = (c1 - c0) * REP
    c0 += tl.load(tiles + i_t * 2 + 1)
    start = tl.load(context_starts + i_r)
    length = tl.load(context_starts + i_r + 1) - start

    HEADS: tl.constexpr = G * REP
    o_m, o_d = tl.arange(0, BM), tl.arange(0, D)
    o_c, o_h = c0 + o_m // REP, i_g * REP + o_m % REP
    m_c = o_c < c1
    o_c64 = o_c.to(tl.int64)[:, None]
    p_row = o_c64 * (HEADS * D) + o_h[:, None] * D + o_d[None, :]
    p_lse = o_h.to(tl.int64) * C + o_c
    # [BM, D]; rows past the request are zero and their lse is inf, so that p is zero there
    b_q = tl.load(q + o_c64 * stride_q + o_h[:, None] * D + o_d[None, :], mask=m_c[:, None], other=0.0)
    b_do = tl.load(do + p_row, mask=m_c[:, None], other=0.0)
    b_o = tl.load(out + p_row, mask=m_c[:, None], other=0.0)
    b_lse = tl.load(lse + p_lse, mask=m_c, other=float("inf")) * LOG2E
    b_do32, b_q32 = b_do.to(tl.float32), b_q.to(tl.float32)
    b_delta = tl.sum(b_o.to(tl.float32) * b_do32, 1)
    if HAS_DLSE:
        b_delta -= tl.load(dlse + p_lse, mask=m_c, other=0.0)
    if SOME or not ONE:
        tl.store(delta + p_lse, b_delta, mask=m_c)

    p_self = i_g * D + o_d[None, :]
    b_ks = tl.load(k_self + o_c64 * stride_k_self + p_self, mask=m_c[:, None], other=0.0).to(tl.float32)
    b_vs = tl.load(v_self + o_c64 * stride_v_self + p_self, mask=m_c[:, None], other=0.0).to(tl.float32)
    b_p = tl.exp2(tl.sum(b_q32 * b_ks, 1) * scale_log2 - b_lse)
    b_ds = b_p * (tl.sum(b_do32 * b_vs, 1) - b_delta)
    b_dq = b_ds[:, None] * b_ks
    b_dks = sum_heads(b_ds[:, None] * b_q32 * scale, BM, REP, D)
    b_dvs = sum_heads(b_p[:, None] * b_do32, BM, REP, D)
    o_s = c0 + tl.arange(0, BM // REP)
    p_s = o_s.to(tl.int64)[:, None] * (G * D) + p_self
    tl.store(dk_self + p_s, b_dks.to(dk_self.dtype.element_ty), mask=(o_s < c1)[:, None])
    tl.store(dv_self + p_s, b_dvs.to(dv_self.dtype.element_ty), mask=(o_s < c1)[:, None])

    if SOME:
        if rows <= BM:
            b_dq = row_walk(
                b_q, b_do, b_lse, b_delta, b_dq, k, v, dk, dv, start, length, i_g, stride_k, stride_v, scale_log2,
                G, D, BN, TMA, True, PRECISION,
            )  # fmt: skip
        else:
            b_dq = row_walk(
                b_q, b_do, b_lse, b_delta, b_dq, k, v, dk, dv, start, length, i_g, stride_k, stride_v, scale_log2,
                G, D, BN, TMA, False, PRECISION,
            )  # fmt: skip
    else:
        b_dq = row_walk(
            b_q, b_do, b_lse, b_delta, b_dq, k, v, dk, dv, start, length, i_g, stride_k, stride_v, scale_log2,
            G, D, BN, TMA, ONE, PRECISION,
        )  # fmt: skip
    tl.store(dq + p_row, (b_dq * scale).to(dq.dtype.element_ty), mask=m_c[:, None])


@triton.jit
def column_step(
    b_k, b_v, b_dk, b_dv, q, do, lse, delta, c0, m, rows, i_g, stride_q, stride_do, C, scale_log2,
    REP: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, TMA: tl.constexpr, PRECISION: tl.constexpr,
    TAIL: tl.constexpr,
):  # fmt: skip
    """Rows m to m + BM of the request: their share of dK and dV."""
    o_m = m + tl.arange(0, BM)
    m_m = o_m < rows
    o_c, o_h = c0 + o_m // REP, i_g * REP + o_m % REP
    if TMA:  # REP is 1
        b_q, b_do = q.load([c0 + m, i_g * D]), do.load([c0 + m, i_g * D])
        if TAIL:
            b_q, b_do = tl.where(m_m[:, None], b_q, 0.0), tl.where(m_m[:, None], b_do, 0.0)
    else:
        p_h = o_h[:, None] * D + tl.arange(0, D)[None, :]
        o_c64 = o_c.to(tl.int64)[:, None]
        if TAIL:
            b_q = tl.load(q + o_c64 * stride_q + p_h, mask=m_m[:, None], other=0.0)
            b_do = tl.load(do + o_c64 * stride_do + p_h, mask=m_m[:, None], other=0.0)
        else:
            b_q = tl.load(q + o_c64 * stride_q + p_h)
            b_do = tl.load(do + o_c64 * stride_do + p_h)
    p_lse = o_h.to(tl.int64) * C + o_c
    if TAIL:
        b_lse = tl.load(lse + p_lse, mask=m_m, other=float("inf")) * LOG2E
        b_delta = tl.load(delta + p_lse, mask=m_m, other=0.0)
    else:
        b_lse = tl.load(lse + p_lse) * LOG2E
        b_delta = tl.load(delta + p_lse)
    # [BN, BM]
    b_p = tl.exp2(tl.dot(b_k, b_q.T, input_precision=PRECISION) * scale_log2 - b_lse[None, :])
    b_dp = tl.dot(b_v, b_do.T, input_precision=PRECISION)
    b_dv = tl.dot(b_p.to(b_do.dtype), b_do, b_dv, input_precision=PRECISION)
    b_ds = (b_p * (b_dp - b_delta[None, :])).to(b_q.dtype)
    b_dk = tl.dot(b_ds, b_q, b_dk, input_precision=PRECISION)
    return b_dk, b_dv


@triton.jit(do_not_specialize=["C"])
def crossing_columns_kernel(
    q, k, v, do, lse, delta, dk, dv, context_starts, candidate_starts, tiles,
    stride_q, stride_k, stride_v, stride_do, C, scale,
    G: tl.constexpr, REP: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    TMA: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    i_t, i_g = tl.program_id(0) // G, tl.program_id(0) % G
    scale_log2 = tl.full([], scale, tl.float32) * LOG2E
    i_r = tl.load(tiles + i_t * 2)
    n0 = tl.load(context_starts + i_r) + tl.load(tiles + i_t * 2 + 1)
    n1 = tl.load(context_starts + i_r + 1)
    c0 = tl.load(candidate_starts + i_r)
    rows = (tl.load(candidate_starts + i_r + 1) - c0) * REP

    o_n, o_d = n0 + tl.arange(0, BN), tl.arange(0, D)
    m_n = (o_n < n1)[:, None]
    o_n64 = o_n.to(tl.int64)[:, None]
    p_g = i_g * D + o_d[None, :]
    b_k = tl.load(k + o_n64 * stride_k + p_g, mask=m_n, other=0.0)
    b_v = tl.load(v + o_n64 * stride_v + p_g, mask=m_n, other=0.0)
    b_dk, b_dv = tl.zeros([BN, D], tl.float32), tl.zeros([BN, D], tl.float32)
    full = rows // BM * BM
    for m in tl.range(0, full, BM):
        b_dk, b_dv = column_step(
            b_k, b_v, b_dk, b_dv, q, do, lse, delta, c0, m, rows, i_g, stride_q, stride_do, C, scale_log2,
            REP, D, BM, TMA, PRECISION, False,
        )  # fmt: skip
    if full < rows:
        b_dk, b_dv = column_step(
            b_k, b_v, b_dk, b_dv, q, do, lse, delta, c0, full, rows, i_g, stride_q, stride_do, C, scale_log2,
            REP, D, BM, TMA, PRECISION, True,
        )  # fmt: skip
    p_n = o_n64 * (G * D) + p_g
    tl.store(dk + p_n, (b_dk * scale).to(dk.dtype.element_ty), mask=m_n)
    tl.store(dv + p_n, b_dv.to(dv.dtype.element_ty), mask=m_n)
