"""One way to see that a program still serves, from the program's file. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tcp:
    """A connection can be opened."""

    port: int


@dataclass(frozen=True, slots=True)
class Http:
    """A GET of `path` is answered with 2xx or 3xx."""

    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is sent is answered with something that begins as expected."""

    port: int
    send: bytes
    expect: bytes


@dataclass(frozen=True, slots=True)
class Exec:
    """A command ends with 0."""

    command: tuple[str, ...]


Question = Tcp | Http | Exchange | Exec


@dataclass(frozen=True, slots=True)
class Check:
    """A question to the program, and what its answers mean.

    interval_s: from the begin of one to that of the next. timeout_s: shorter; who has not answered by then has not.
    rise, fall: so many good, or failed, answers in a row change the verdict. start_s: after a start without a context
    failed answers do not count for so long, or until the first good one.
    """

    question: Question
    interval_s: float
    timeout_s: float
    rise: int
    fall: int
    start_s: float

    @property
    def name(self) -> str:
        """What a person recognizes it by."""
        match self.question:
            case Exec(command):
                return command[0].rpartition("/")[2]
            case Tcp(port):
                return f"tcp {port}"
            case Http(port, path):
                return f"http {port}{path}"
            case Exchange(port):
                return f"exchange {port}"
