# ruff: noqa: ANN001, ANN201, ARG001, D103, PLR0915, PLR0917, RUF059, SIM102, SIM108, SIM113 - Gluon's language, not Python
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Crossing attention, forward, for sm90: FlashAttention-3's schedule in Gluon, which comes with Triton.

As `crossing_forward`, for heads that share no keys and for histories that are not split. A program stays on its
multiprocessor and takes every grid-th (tile, head). One warp loads: K and V through rings of S stages, Q and the self
token's rows through rings of A, always as far ahead as there is room, so the next tile's first loads run under this
tile's last products. W groups of four warps compute BM rows each over the same K and V; within a group the scores of
one block run on the tensor cores together with P V of the block before, while the softmax works in registers. The
ragged block of a history goes first, so that the loop has no mask. With STORES a whole tile leaves by the copy engine.
"""

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

# Triton 3.6's names, and the later ones
bulk_load = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
bulk_store = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global
LOG2E = gl.constexpr(1.4426950408889634)
LN2 = gl.constexpr(0.6931471805599453)
TYPES = {torch.bfloat16: gl.bfloat16, torch.float16: gl.float16}


def describe(x: torch.Tensor, block: int) -> TensorDescriptor:
    """Rows of all heads, one head of `block` rows a load, swizzled in shared memory as the tensor cores read it."""
    rows, heads, D = x.shape
    layout = gl.NVMMASharedLayout.get_default_for([block, D], TYPES[x.dtype])
    return TensorDescriptor(x, [rows, heads * D], [x.stride(0), 1], [block, D], layout)


@gluon.jit
def find_work(i, tiles, G: gl.constexpr, BN: gl.constexpr):
    """Of work item i: first row, the request's end, its first token, tokens of the ragged block, blocks."""
    p_tile = tiles + (i // G) * 4
    c0 = gl.load(p_tile)
    c1 = gl.load(p_tile + 1)
    start = gl.load(p_tile + 2)
    length = gl.load(p_tile + 3)
    blocks = (length + BN - 1) // BN
    return c0, c1, start, length - (blocks - 1) * BN, blocks


@gluon.jit
def load_work(
    q, k_self, v_self, k, v, q_ring, ks_ring, vs_ring, k_ring, v_ring,
    q_full, q_free, self_full, self_free, k_full, k_free, v_full, v_free,
    tiles, work,
    G: gl.constexpr, D: gl.constexpr, BM: gl.constexpr, BN: gl.constexpr, W: gl.constexpr, S: gl.constexpr,
    A: gl.constexpr, STORES: gl.constexpr,
):  # fmt: skip
    """The loading warp: the candidates' rows of each work item, then its blocks of K and V."""
    n, n_q = 0, 0  # blocks and work items so far: stage and phase of the rings
    for i in range(gl.program_id(0), work, gl.num_programs(0)):
        c0, c1, start, tail, blocks = find_work(i, tiles, G, BN)
        column = (i % G) * D
        a, phase_q = n_q % A, ((n_q // A) & 1) ^ 1
        mbarrier.wait(self_free.index(a), phase_q)
        mbarrier.expect(self_full.index(a), 2 * W * q.block_type.nbytes)
        for w in gl.static_range(W):
            bulk_load(k_self, [c0 + w * BM, column], self_full.index(a), ks_ring.index(a * W + w))
            bulk_load(v_self, [c0 + w * BM, column], self_full.index(a), vs_ring.index(a * W + w))
        mbarrier.wait(q_free.index(a), phase_q)
        mbarrier.expect(q_full.index(a), W * q.block_type.nbytes)
        for w in gl.static_range(W):
            bulk_load(q, [c0 + w * BM, column], q_full.index(a), q_ring.index(a * W + w))
        n_q += 1
        for j in range(blocks):
            s, phase = n % S, ((n // S) & 1) ^ 1
            row = start + gl.where(j == 0, 0, tail + (j - 1) * BN)
            mbarrier.wait(k_free.index(s), phase)
            mbarrier.expect(k_full.index(s), k.block_type.nbytes)
            bulk_load(k, [row, column], k_full.index(s), k_ring.index(s))
            mbarrier.wait(v_free.index(s), phase)
            mbarrier.expect(v_full.index(s), v.block_type.nbytes)
            bulk_load(v, [row, column], v_full.index(s), v_ring.index(s))
            n += 1


@gluon.jit
def softmax_step(b_s, b_m, b_l, scale_log2):
    """Probabilities, the factor of what came before, running maximum and sum."""
    b_new = gl.maximum(b_m, gl.max(b_s, 1) * scale_log2)
    b_p = gl.exp2(b_s * scale_log2 - b_new[:, None])
    b_a = gl.exp2(b_m - b_new)
    return b_p, b_a, b_new, b_l * b_a + gl.sum(b_p, 1)


@gluon.jit
def self_token(
    rows, q_ring, ks_ring, vs_ring, self_full, self_free, phase, scale_log2, O_LAYOUT: gl.constexpr
):  # fmt: skip
    """What seeds the softmax of a group, whose rows lie at `rows` of the rings: the running maximum and the output."""
    mbarrier.wait(self_full, phase)
    b_acc = vs_ring.index(rows).load(O_LAYOUT).to(gl.float32)
    b_ks = ks_ring.index(rows).load(O_LAYOUT).to(gl.float32)
    b_top = gl.sum(q_ring.index(rows).load(O_LAYOUT).to(gl.float32) * b_ks, 1) * scale_log2
    mbarrier.arrive(self_free, count=1)
    return b_top, b_acc


@gluon.jit
def compute_work(
    w, out, out_rows, lse, o_ring, q_ring, ks_ring, vs_ring, k_ring, v_ring,
    q_full, q_free, self_full, self_free, k_full, k_free, v_full, v_free, v_clean,
    tiles, work, C, scale_log2,
    G: gl.constexpr, D: gl.constexpr, BM: gl.constexpr, BN: gl.constexpr, W: gl.constexpr, S: gl.constexpr,
    A: gl.constexpr, STORES: gl.constexpr,
):  # fmt: skip
    """Group w of four warps: rows w * BM to (w + 1) * BM of each work item."""
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BN, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    V_LAYOUT: gl.constexpr = gl.BlockedLayout([1, 8], [256 // D, D // 8], [4, 1], [1, 0])
    S_ROWS: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    O_ROWS: gl.constexpr = gl.SliceLayout(1, O_LAYOUT)
    dtype: gl.constexpr = out.dtype.element_ty
    S_COLUMNS: gl.constexpr = gl.SliceLayout(0, S_LAYOUT)
    O_COLUMNS: gl.constexpr = gl.SliceLayout(0, O_LAYOUT)
    V_ROWS: gl.constexpr = gl.SliceLayout(1, V_LAYOUT)
    o_d = gl.arange(0, D, layout=O_COLUMNS)[None, :]
    o_n = gl.arange(0, BN, layout=S_COLUMNS)[None, :]
    o_v = gl.arange(0, BN, layout=V_ROWS)[:, None]
    b_zero = gl.zeros([BM, BN], gl.float32, layout=S_LAYOUT)
    n, n_q, n_clean = 0, 0, 0
    c0, c1, _start, tail, blocks = find_work(gl.program_id(0), tiles, G, BN)
    for i in range(gl.program_id(0), work, gl.num_programs(0)):
        # asked for now, so that the next tile does not begin by waiting for it
        following = gl.minimum(i + gl.num_programs(0), work - 1)
        next_c0, next_c1, _start, next_tail, next_blocks = find_work(following, tiles, G, BN)
        i_h = i % G
        a, phase_q = n_q % A, (n_q // A) & 1
        rows = a * W + w
        o_c = c0 + w * BM + gl.arange(0, BM, layout=O_ROWS)
        m_c = o_c < c1
        m_row = m_c[:, None] & (o_d < D)
        o_c64 = o_c.to(gl.int64)[:, None]
        b_l = gl.full([BM], 1.0, gl.float32, layout=S_ROWS)
        mbarrier.wait(q_full.index(a), phase_q)
        if blocks > 0:
            s = n % S
            mbarrier.wait(k_full.index(s), (n // S) & 1)
            token = warpgroup_mma(
                q_ring.index(rows), k_ring.index(s).permute((1, 0)), b_zero, use_acc=False, is_async=True
            )
            b_top, b_acc = self_token(
                rows, q_ring, ks_ring, vs_ring, self_full.index(a), self_free.index(a), phase_q, scale_log2, O_LAYOUT
            )
            b_m = gl.convert_layout(b_top, S_ROWS)
            b_s = warpgroup_mma_wait(0, deps=[token])
            mbarrier.arrive(k_free.index(s), count=1)
            if tail < BN:
                b_s = gl.where(o_n < tail, b_s, float("-inf"))
            b_p, b_a, b_m, b_l = softmax_step(b_s, b_m, b_l, scale_log2)
            b_acc = b_acc * gl.convert_layout(b_a, O_ROWS)[:, None]
            b_p16 = gl.convert_layout(b_p.to(dtype), P_LAYOUT)
            if blocks == 1:
                if tail < BN:
                    # the rows after the history are a neighbour's: 0 times its NaN is NaN
                    if w == 0:
                        mbarrier.wait(v_full.index(s), (n // S) & 1)
                        b_v = v_ring.index(s).load(V_LAYOUT)
                        v_ring.index(s).store(gl.where(o_v < tail, b_v, 0.0))
                        fence_async_shared()
                        mbarrier.arrive(v_clean, count=1)
                    mbarrier.wait(v_clean, n_clean & 1)
                    n_clean += 1
            for j in range(1, blocks):
                now, before = (n + j) % S, (n + j - 1) % S
                mbarrier.wait(k_full.index(now), ((n + j) // S) & 1)
                token = warpgroup_mma(
                    q_ring.index(rows), k_ring.index(now).permute((1, 0)), b_zero, use_acc=False, is_async=True
                )
                mbarrier.wait(v_full.index(before), ((n + j - 1) // S) & 1)
                o_token = warpgroup_mma(b_p16, v_ring.index(before), b_acc, is_async=True)
                b_s = warpgroup_mma_wait(1, deps=[token])
                mbarrier.arrive(k_free.index(now), count=1)
                b_p, b_a, b_m, b_l = softmax_step(b_s, b_m, b_l, scale_log2)
                b_acc, b_p16 = warpgroup_mma_wait(0, deps=[o_token, b_p16])
                mbarrier.arrive(v_free.index(before), count=1)
                b_acc = b_acc * gl.convert_layout(b_a, O_ROWS)[:, None]
                b_p16 = gl.convert_layout(b_p.to(dtype), P_LAYOUT)
            mbarrier.arrive(q_free.index(a), count=1)
            n += blocks
            last = (n - 1) % S
            mbarrier.wait(v_full.index(last), ((n - 1) // S) & 1)
            o_token = warpgroup_mma(b_p16, v_ring.index(last), b_acc, is_async=True)
            b_acc, b_p16 = warpgroup_mma_wait(0, deps=[o_token, b_p16])
            mbarrier.arrive(v_free.index(last), count=1)
            b_top = gl.convert_layout(b_m, O_ROWS)
        else:
            b_top, b_acc = self_token(
                rows, q_ring, ks_ring, vs_ring, self_full.index(a), self_free.index(a), phase_q, scale_log2, O_LAYOUT
            )
            mbarrier.arrive(q_free.index(a), count=1)
        n_q += 1
        b_sum = gl.convert_layout(b_l, O_ROWS)
        b_out = (b_acc * (1.0 / b_sum)[:, None]).to(dtype)
        whole = c0 + (w + 1) * BM <= c1
        if STORES and whole:
            tma.store_wait(0)  # of the tile before, whose rows lie there
            o_ring.index(w).store(b_out)
            fence_async_shared()
            bulk_store(out_rows, [c0 + w * BM, i_h * D], o_ring.index(w))
        else:
            p_out = out + o_c64 * (G * D) + i_h * D + o_d
            gl.store(p_out, b_out, mask=m_row)
        gl.store(lse + i_h.to(gl.int64) * C + o_c, (b_top + gl.log2(b_sum)) * LN2, mask=m_c)
        c0, c1, tail, blocks = next_c0, next_c1, next_tail, next_blocks
    if STORES:
        tma.store_wait(0)


@gluon.jit(do_not_specialize=["C", "work"])
def crossing_hopper_kernel(
    q, k_self, v_self, k, v, out_rows, out, lse, tiles, work, C, scale_log2,
    G: gl.constexpr, D: gl.constexpr, BM: gl.constexpr, BN: gl.constexpr, W: gl.constexpr, S: gl.constexpr,
    A: gl.constexpr, STORES: gl.constexpr, REGISTERS: gl.constexpr,
):  # fmt: skip
    dtype: gl.constexpr = out.dtype.element_ty
    q_ring = gl.allocate_shared_memory(dtype, [A * W, BM, D], q.layout)
    ks_ring = gl.allocate_shared_memory(dtype, [A * W, BM, D], q.layout)
    vs_ring = gl.allocate_shared_memory(dtype, [A * W, BM, D], q.layout)
    if STORES:
        o_ring = gl.allocate_shared_memory(dtype, [W, BM, D], q.layout)
    else:
        o_ring = q_ring
    k_ring = gl.allocate_shared_memory(dtype, [S, BN, D], k.layout)
    v_ring = gl.allocate_shared_memory(dtype, [S, BN, D], v.layout)
    q_full = gl.allocate_shared_memory(gl.int64, [A, 1], mbarrier.MBarrierLayout())
    q_free = gl.allocate_shared_memory(gl.int64, [A, 1], mbarrier.MBarrierLayout())
    self_full = gl.allocate_shared_memory(gl.int64, [A, 1], mbarrier.MBarrierLayout())
    self_free = gl.allocate_shared_memory(gl.int64, [A, 1], mbarrier.MBarrierLayout())
    v_clean = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    k_full = gl.allocate_shared_memory(gl.int64, [S, 1], mbarrier.MBarrierLayout())
    k_free = gl.allocate_shared_memory(gl.int64, [S, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [S, 1], mbarrier.MBarrierLayout())
    v_free = gl.allocate_shared_memory(gl.int64, [S, 1], mbarrier.MBarrierLayout())
    for a in gl.static_range(A):
        mbarrier.init(q_full.index(a), count=1)
        mbarrier.init(q_free.index(a), count=W)
        mbarrier.init(self_full.index(a), count=1)
        mbarrier.init(self_free.index(a), count=W)
    mbarrier.init(v_clean, count=1)
    for s in gl.static_range(S):
        mbarrier.init(k_full.index(s), count=1)
        mbarrier.init(k_free.index(s), count=W)
        mbarrier.init(v_full.index(s), count=1)
        mbarrier.init(v_free.index(s), count=W)
    # written out: a tuple with a name would make its constants run-time values
    gl.warp_specialize(
        [
            (compute_work, (
                0, out, out_rows, lse, o_ring, q_ring, ks_ring, vs_ring, k_ring, v_ring, q_full, q_free,
                self_full, self_free, k_full, k_free, v_full, v_free, v_clean, tiles, work, C, scale_log2,
                G, D, BM, BN, W, S, A, STORES,
            )),
            (compute_work, (
                1, out, out_rows, lse, o_ring, q_ring, ks_ring, vs_ring, k_ring, v_ring, q_full, q_free,
                self_full, self_free, k_full, k_free, v_full, v_free, v_clean, tiles, work, C, scale_log2,
                G, D, BM, BN, W, S, A, STORES,
            )),
            (load_work, (
                q, k_self, v_self, k, v, q_ring, ks_ring, vs_ring, k_ring, v_ring, q_full, q_free, self_full,
                self_free, k_full, k_free, v_full, v_free, tiles, work,
                G, D, BM, BN, W, S, A, STORES,
            )),
        ],
        [4, 1],
        [REGISTERS, 24],
    )  # fmt: skip
