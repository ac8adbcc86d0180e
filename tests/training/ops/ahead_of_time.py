"""Compiles the crossing kernels for a card that is not there, and says what shared memory they ask for."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from training.ops.kernels.crossing_backward import crossing_columns_kernel, crossing_rows_kernel
from training.ops.kernels.crossing_forward import crossing_forward_kernel

# Most bytes of shared memory a program may have, from the CUDA programming guide's table of capabilities.
SHARED = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
INTEGERS = {"context_starts", "candidate_starts", "tiles", "page_table"}
FLOATS = {"lse", "dlse", "delta"}


def shared_memory(capability, kernel, tile, D, dtype, rep=1, G=2, **options):
    """Bytes of shared memory of one compiled tile; raises what the compiler raises."""
    fn, described = {
        "forward": (crossing_forward_kernel, ("k", "v")),
        "one": (crossing_rows_kernel, ("k", "v")),
        "row_pass": (crossing_rows_kernel, ("k", "v")),
        "column_pass": (crossing_columns_kernel, ("q", "do")),
    }[kernel]
    use_tma = tile.tma and (rep == 1 or kernel != "column_pass")
    constants = {"G": G, "REP": rep, "D": D, "BM": tile.rows, "BN": tile.columns, "TMA": use_tma, "PRECISION": "tf32"}
    if kernel == "forward":
        constants |= {"SPLITS": 1, "PAGE": 0, "page_table": None, **options}
    if kernel in {"one", "row_pass"}:
        constants |= {"ONE": kernel == "one", "SOME": kernel == "one", "HAS_DLSE": False, "dlse": None}
    block = tile.rows if kernel == "column_pass" else tile.columns
    signature, attributes = {}, {}
    for i, name in enumerate(fn.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif use_tma and name in described:
            signature[name] = f"tensordesc<{dtype}[{block}, {D}]>"
        elif name == "scale":
            signature[name] = "fp32"
        elif name == "C" or "stride" in name:
            signature[name] = "i32"
            if name.startswith("stride"):
                attributes[(i,)] = [["tt.divisibility", 16]]
        else:
            of = "i32" if name in INTEGERS else "fp32" if name in FLOATS else dtype
            signature[name] = f"*{of}"
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn, signature, constants, attributes)
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target, {"num_warps": tile.warps, "num_stages": tile.stages})
    return compiled.metadata.shared


def hopper_shared_memory(tile, D, dtype="bf16"):
    """The same of the Gluon kernel, for sm90."""
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource

    from training.ops.kernels.crossing_hopper import crossing_hopper_kernel as fn
    from training.ops.kernels.hopper_launch import rings

    element = {"bf16": gl.bfloat16, "fp16": gl.float16}[dtype]
    rows = tile.rows // 2
    constants = {"G": 2, "D": D, "BM": rows, "BN": tile.columns, "W": 2, "S": tile.stages, "REGISTERS": 240, **rings(D)}
    signature, attributes = {}, {}
    for i, name in enumerate(fn.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in {"q", "k_self", "v_self", "k", "v", "out_rows"}:
            block = [tile.columns if name in {"k", "v"} else rows, D]
            signature[name] = f"tensordesc<{dtype}{block},{gl.NVMMASharedLayout.get_default_for(block, element)!r}>"
        elif name in {"C", "work", "scale_log2"}:
            signature[name] = "fp32" if name == "scale_log2" else "i32"
        else:
            of = "i32" if name in INTEGERS else "fp32" if name in FLOATS else dtype
            signature[name] = f"*{of}"
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = GluonASTSource(fn, signature, constants, attributes)
    return triton.compile(source, GPUTarget("cuda", 90, 32), {"num_warps": 4}).metadata.shared
