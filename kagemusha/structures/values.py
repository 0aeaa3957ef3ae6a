"""Values as bytes and back: which there are, and how own types join them. No pickle: what is read makes no code run.

Native to msgpack: None, bool, int, float, str, bytes, and the plain list and dict. The rest are extensions; containers
that are tracked travel as the number of their node (see graph.py). Classes of dataclasses and enumerations are looked
up by name among the modules that the program has imported; nothing is imported for it, and no constructor runs.

Values travel in columns: many at once through one call of the packer, which is what makes a delta of ten thousand
entries cost milliseconds. A column says how it is packed: `SCALARS`; `ROWS`, tuples of scalars and all of one length
(packed as that length and then all items in one list); or `MIXED`.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections import deque
from collections.abc import Collection
from itertools import chain
from typing import Any, Callable, NamedTuple

import msgpack

from kagemusha.structures.errors import NotEncodable

ATOMIC = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose values never change and hold no others."""

SCALARS, ROWS, MIXED = 0, 1, 2

_TUPLE, _SET, _FROZENSET, _DEQUE, _BYTEARRAY, _BIGINT = 1, 2, 3, 4, 5, 6
_NODE, _DATACLASS, _ARRAY, _OWN, _NUMBER, _ENUM = 7, 8, 9, 10, 11, 12

Link = Callable[[Any], "int | None"]
"""From a tracked container to the number of its node; None: encode its content."""


class OwnType(NamedTuple):
    """A type that the program has registered. `immutable`: its values never change, and need no second look."""

    name: str
    cls: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    immutable: bool


class Types:
    """The program's own types."""

    def __init__(self) -> None:
        self._by_class: dict[type, OwnType] = {}
        self._by_name: dict[str, OwnType] = {}

    def register(self, own: OwnType) -> None:
        """Add a type; the same class or name once more replaces the former."""
        self._by_class[own.cls] = own
        self._by_name[own.name] = own

    def of(self, cls: type) -> OwnType | None:
        return self._by_class.get(cls)

    def named(self, name: str) -> OwnType:
        """Return the type of that name; raises ValueError when this program has not registered it."""
        own = self._by_name.get(name)
        if own is None:
            raise ValueError(f"the type {name} is not registered in this program")
        return own


def numpy() -> Any:
    """Return numpy if the program uses it, otherwise None."""
    return sys.modules.get("numpy")


def is_array(value: Any) -> bool:
    """Whether it is a numpy array."""
    module = numpy()
    return module is not None and isinstance(value, module.ndarray)


def class_name(cls: type) -> str:
    """Return the dotted path under which the other side finds a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def loaded_class(name: str) -> type:
    """Return the class of that name out of the modules that are loaded; raises ValueError when there is none."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ValueError(f"there is no class {name} among the modules that this program has imported")
    return found


class Packer:
    """Values to bytes. `link`: gives tracked containers their number."""

    def __init__(self, types: Types, link: Link) -> None:
        self._types = types
        self._link = link

    def linked_by(self, link: Link) -> Packer:
        """Return one of the same types with another `link`."""
        return Packer(self._types, link)

    def column(self, values: Collection[Any]) -> tuple[int, bytes]:
        """Pack many values at once; raises NotEncodable, which names the first that can't be."""
        if values:
            try:
                first = next(iter(values))
                if type(first) is not tuple:
                    return SCALARS, _only_scalars(list(values))
                if set(map(type, values)) == {tuple} and len(set(map(len, values))) == 1 and first:
                    flat = _only_scalars(list(chain.from_iterable(values)))
                    return ROWS, msgpack.packb(len(first)) + flat
            except (TypeError, OverflowError):
                pass
        return MIXED, self._packed(list(values))

    def keys(self, values: Collection[Any]) -> tuple[int, bytes]:
        """Pack keys of a dict, which have a hash: what column() asks of scalars is known of them."""
        if values and type(next(iter(values))) is not tuple:
            try:
                return SCALARS, _packed_scalars(list(values))
            except (TypeError, OverflowError):
                pass
        return self.column(values)

    def one(self, value: Any) -> bytes:
        """Pack one value; raises NotEncodable."""
        return self._packed(value)

    def _packed(self, value: Any) -> bytes:
        try:
            packed: bytes = msgpack.packb(
                _without_bytearrays(value), default=self._extension, strict_types=True, unicode_errors="surrogatepass"
            )
        except (ValueError, RecursionError) as error:
            raise NotEncodable(f"a value that contains itself, or nests too deeply: {error}") from error
        return packed

    def _extension(self, value: Any) -> Any:
        """Return what msgpack asks for: the extension of a value that it does not know."""
        kind = type(value)
        if kind is int:  # beyond 64 bits, which msgpack does not know
            return msgpack.ExtType(_BIGINT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
        if kind is tuple:
            return msgpack.ExtType(_TUPLE, self._packed(list(value)))
        if hasattr(kind, "_kagemusha"):
            return self._tracked(value)
        own = self._types.of(kind)
        if own is not None:
            return msgpack.ExtType(_OWN, self._packed([own.name, own.encode(value)]))
        return self._standard(value, kind)

    def _tracked(self, value: Any) -> Any:
        number = self._link(value)
        if number is not None:
            return msgpack.ExtType(_NODE, msgpack.packb(number))
        if isinstance(value, dict):
            return dict(value)
        if isinstance(value, list):
            return list(value)
        return self._standard(value, next(base for base in (set, deque, type(value)) if isinstance(value, base)))

    def _standard(self, value: Any, kind: type) -> Any:
        if kind is set or kind is frozenset:
            return msgpack.ExtType(_SET if kind is set else _FROZENSET, self._packed(self.in_order(value)))
        if kind is deque:
            return msgpack.ExtType(_DEQUE, self._packed([value.maxlen, list(value)]))
        if isinstance(value, enum.Enum):
            return msgpack.ExtType(_ENUM, self._packed([class_name(kind), value.name]))
        if dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(value)]
            content = [getattr(value, name) for name in names]
            return msgpack.ExtType(_DATACLASS, self._packed([class_name(kind), names, content]))
        module = numpy()
        if module is not None and isinstance(value, (module.ndarray, module.generic)):
            return self._array(value, module)
        raise NotEncodable(
            f"a {kind.__module__}.{kind.__qualname__}, which can't be encoded",
            hint=f"structures.register({kind.__qualname__}, encode=..., decode=...)",
        )

    def _array(self, value: Any, module: Any) -> Any:
        if value.dtype.hasobject:
            raise NotEncodable("a numpy array of objects", hint="an array of numbers, or a list")
        described = module.lib.format.dtype_to_descr(value.dtype)
        code = _ARRAY if isinstance(value, module.ndarray) else _NUMBER
        return msgpack.ExtType(code, self._packed([described, list(value.shape), value.tobytes()]))

    def in_order(self, values: Any) -> list[Any]:
        """Return the elements of a set in an order that does not depend on the process."""
        return sorted(values, key=self._packed)


_CONTAINING = frozenset({list, dict, bytearray, memoryview})


def _without_bytearrays(value: Any) -> Any:
    """Put extensions in the place of bytearrays: msgpack takes them for bytes. Nothing is changed, at most copied."""
    kind = type(value)
    if kind is list and not _CONTAINING.isdisjoint(map(type, value)):
        return [_without_bytearrays(item) for item in value]
    if kind is dict and not _CONTAINING.isdisjoint(map(type, value.values())):
        return {key: _without_bytearrays(item) for key, item in value.items()}
    if kind is bytearray:
        return msgpack.ExtType(_BYTEARRAY, bytes(value))
    if kind is memoryview:
        raise NotEncodable("a memoryview, which can't be encoded", hint="bytes(...) of it")
    return value


def _refuse(value: Any) -> Any:
    raise TypeError(type(value))


def _only_scalars(values: list[Any]) -> bytes:
    """Pack values that are all ATOMIC; raises TypeError or OverflowError where one is not.

    msgpack itself refuses all other types but the mutable ones that it knows, and those have no hash: to ask for the
    hash of all at once takes a fraction of the time of looking at each type.
    """
    hash(tuple(values))
    return _packed_scalars(values)


def _packed_scalars(values: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(values, default=_refuse, strict_types=True, unicode_errors="surrogatepass")
    return packed


class Unpacker:
    """Bytes to values. `node`: the container of a number; raises KeyError for one that is not there.

    `seen`: told of the values of each column that may hold others than scalars and rows of them.
    """

    def __init__(
        self, types: Types, node: Callable[[int], Any], seen: Callable[[Any], None] = lambda values: None
    ) -> None:
        self._types = types
        self._node = node
        self._seen = seen

    def column(self, packed: Any) -> Any:
        """Return the values of a column, as a list or tuple; raises ValueError or KeyError for bytes that are none."""
        mode, data = packed
        if mode == SCALARS:
            return msgpack.unpackb(data, unicode_errors="surrogatepass")
        if mode == ROWS:
            unpacker = msgpack.Unpacker(unicode_errors="surrogatepass", max_buffer_size=0)
            unpacker.feed(data)
            width, flat = unpacker
            return list(zip(*[iter(flat)] * width))
        values = self.one(data)
        self._seen(values)
        return values

    def one(self, data: bytes) -> Any:
        """Return one value; raises as column() does."""
        return msgpack.unpackb(data, ext_hook=self._extension, strict_map_key=False, unicode_errors="surrogatepass")

    def _extension(self, code: int, data: bytes) -> Any:
        if code == _BYTEARRAY:
            return bytearray(data)
        if code == _BIGINT:
            return int.from_bytes(data, "little", signed=True)
        value = self.one(data)
        if code == _TUPLE:
            return tuple(value)
        if code == _SET:
            return set(value)
        if code == _FROZENSET:
            return frozenset(value)
        if code == _DEQUE:
            return deque(value[1], value[0])
        if code == _NODE:
            return self._node(value)
        return self._named(code, value)

    def _named(self, code: int, value: Any) -> Any:
        if code == _OWN:
            return self._types.named(value[0]).decode(value[1])
        if code == _ENUM:
            cls = loaded_class(value[0])
            if not issubclass(cls, enum.Enum):
                raise ValueError(f"{value[0]} is no enumeration")
            return cls[value[1]]
        if code == _DATACLASS:
            return filled(blank(value[0]), value[1], value[2])
        if code in (_ARRAY, _NUMBER):
            import numpy as np  # only here: a program that is sent arrays uses numpy

            array = np.frombuffer(value[2], np.lib.format.descr_to_dtype(value[0])).reshape(value[1])
            return array.copy() if code == _ARRAY else array[()]
        raise ValueError(f"an extension with the unknown code {code}")


def blank(name: str) -> Any:
    """Return an instance of the dataclass of that name with no field set; raises ValueError when it is none."""
    cls = loaded_class(name)
    if not dataclasses.is_dataclass(cls):
        raise ValueError(f"{name} is no dataclass")
    return object.__new__(cls)


def filled(instance: Any, names: list[str], content: list[Any]) -> Any:
    """Set fields past everything that the class does at an assignment: frozen ones, and those that are tracked."""
    known = {field.name for field in dataclasses.fields(instance)}
    for name, value in zip(names, content):
        if name not in known:
            raise ValueError(f"{class_name(type(instance))} has no field {name}")
        object.__setattr__(instance, name, value)
    return instance
