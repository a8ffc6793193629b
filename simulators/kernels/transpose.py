"""Transposition of 8 x 8 tiles of doubles in vector registers.

A transposition written as two loops moves one number at a time; compilers do not find the shuffles that move eight.
`transpose_tile` spells them out: eight rows of eight are loaded, blocks of 1, 2 and 4 are exchanged across the
diagonal in three rounds, and eight rows are stored. `lanes.split_columns` is more than twice as fast with it at n = 32.
"""

from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["TILE", "transpose_tile"]

TILE = 8


def _by_loops(source: Any, rows: Any, destination: Any, columns: Any) -> None:
    for i in range(TILE):
        for j in range(TILE):
            destination[columns[j] + i] = source[rows[i] + j]


@intrinsic
def _by_shuffles(typing_context, source, rows, destination, columns):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Transpose one tile; numba calls this at compile time, and what it returns writes the instructions."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        arrays = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[::2], arguments[::2], strict=True)
        ]
        offsets = [cgutils.unpack_tuple(builder, value, TILE) for value in arguments[1::2]]
        vector = ir.VectorType(ir.DoubleType(), TILE)

        def pointer(array, offset):  # type: ignore[no-untyped-def]
            return builder.bitcast(builder.gep(array, [offset]), vector.as_pointer())

        def shuffle(first, second, lanes):  # type: ignore[no-untyped-def]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), TILE), lanes)
            return builder.shuffle_vector(first, second, mask)

        tile = []
        for offset in offsets[0]:
            tile.append(builder.load(pointer(arrays[0], offset)))
            tile[-1].align = 8  # of one double: rows need not begin at a vector
        for width in (1, 2, 4):
            # lanes 0-7 name the first vector of a shuffle, 8-15 the second
            low = [lane if not lane & width else TILE + lane - width for lane in range(TILE)]
            high = [lane + width if not lane & width else TILE + lane for lane in range(TILE)]
            for i in range(TILE):
                if not i & width:
                    first, second = tile[i], tile[i + width]
                    tile[i], tile[i + width] = shuffle(first, second, low), shuffle(first, second, high)
        for row, offset in zip(tile, offsets[1], strict=True):
            builder.store(row, pointer(arrays[1], offset)).align = 8
        return context.get_dummy_value()

    return types.void(source, rows, destination, columns), generate


# transpose_tile(source, rows, destination, columns): for i, j < 8,
#     destination[columns[j] + i] = source[rows[i] + j],
# flat float64 arrays and tuples of eight offsets. Without the compiler there are no instructions to write.
transpose_tile: Any = _by_loops if config.DISABLE_JIT else _by_shuffles  # type: ignore[attr-defined]
