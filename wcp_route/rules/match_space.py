"""The closed space that rules speak about: 4 environments x 3 labels x 3 risks x 4 classes = 144 cells.

A set of cells is an integer of 144 bits. Whether a rule matches a cell that no earlier rule took is decided exactly by
one `&` and one comparison with zero, without comparing rules in pairs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from wcp_route.domain.values import DATA_LABELS, ENVS, QOS_CLASSES, TENANT_RISKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wcp_route.domain.values import DataLabel, Env, QosClass, TenantRisk

# Slowest first; a cell's number is the sum of its four offsets.
_AXES: Final = (("env", ENVS), ("data_label", DATA_LABELS), ("tenant_risk", TENANT_RISKS), ("qos_class", QOS_CLASSES))
CELLS: Final = len(ENVS) * len(DATA_LABELS) * len(TENANT_RISKS) * len(QOS_CLASSES)
EVERYWHERE: Final = (1 << CELLS) - 1


# How many cells lie between two neighbours of an axis: the product of the sizes of the axes behind it.
_STRIDES: Final = tuple(math.prod(len(values) for _, values in _AXES[place + 1 :]) for place in range(len(_AXES)))
OFFSETS: Final[Mapping[str, Mapping[str, int]]] = {
    name: {value: place * stride for place, value in enumerate(values)}
    for (name, values), stride in zip(_AXES, _STRIDES, strict=True)
}
_ENV, _LABEL, _RISK, _QOS = (OFFSETS[name] for name, _ in _AXES)
_NAMES: Final = tuple(
    (env, label, risk, qos) for env in ENVS for label in DATA_LABELS for risk in TENANT_RISKS for qos in QOS_CLASSES
)


def cell_of(env: Env, data_label: DataLabel, tenant_risk: TenantRisk, qos_class: QosClass) -> int:
    """Return the number of one cell, 0 to 143.

    Args:
        env: `dev`, `stage`, `prod` or `edge`.
        data_label: `PUBLIC`, `INTERNAL` or `RESTRICTED`.
        tenant_risk: `low`, `medium` or `high`.
        qos_class: `P0` to `P3`.
    """
    return _ENV[env] + _LABEL[data_label] + _RISK[tenant_risk] + _QOS[qos_class]


def mask_of(match: Iterable[tuple[str, tuple[str, ...]]]) -> int:
    """Return the cells in which every named axis has one of its listed values.

    Args:
        match: axes (`env`, `data_label`, `tenant_risk`, `qos_class`) with their values; one left out has any value.
    """
    mask = EVERYWHERE
    for axis, values in match:
        mask &= axis_mask(axis, values)
    return mask


@lru_cache(maxsize=512)  # more than there are subsets of the four axes' values
def axis_mask(axis: str, values: tuple[str, ...]) -> int:
    """Return the cells in which one axis has one of some values; loading 10,000 rules asks for few of them."""
    place = next(place for place, (name, _) in enumerate(_AXES) if name == axis)
    return sum(1 << cell for cell, names in enumerate(_NAMES) if names[place] in values)


@lru_cache(maxsize=4096)  # rule sets use few shapes
def cells_in(mask: int) -> tuple[int, ...]:
    """Return the numbers of the cells of a set, ascending."""
    return tuple(cell for cell in range(CELLS) if mask >> cell & 1)


def describe(mask: int) -> tuple[str, ...]:
    """Return a set of cells in words, as coarse as is exact: `prod/RESTRICTED`, `edge/PUBLIC/low/P0`."""
    found: list[str] = []
    for first in range(0, CELLS, 12):
        env, label, _, _ = _NAMES[first]
        if (mask >> first) & 0xFFF == 0xFFF:
            found.append(f"{env}/{label}")
            continue
        for start in range(first, first + 12, 4):
            if (mask >> start) & 0xF == 0xF:
                found.append(f"{env}/{label}/{_NAMES[start][2]}")
            else:
                found += ["/".join(_NAMES[cell]) for cell in range(start, start + 4) if mask >> cell & 1]
    return tuple(found)
