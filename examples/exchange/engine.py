"""An order book, and who holds what: plain data that is mirrored, and the rules by which it changes. No network here.

All of it is one structure, because it belongs together: at each instant what was bought is what was sold. What can be
worked out from it (which orders wait at which price) is not mirrored: `Exchange.look_through` does so when it begins to
serve.
"""

from __future__ import annotations

import re
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kagemusha import structures

LIMIT = 1_000_000_000
"""Highest price and quantity."""
_NAME = re.compile(r"[a-z0-9-]{1,32}")


Order = tuple[str, int, int, int]
"""Owner, side (1: buys, -1: sells), price, how much is open. There are many: plain rows are what travels best."""


@structures.tracked
@dataclass(eq=False)
class Account:
    """What someone has had on the exchange: how many orders, for how much altogether, and what became of that."""

    orders: int = 0
    asked: int = 0
    bought: int = 0
    sold: int = 0
    cancelled: int = 0
    cash: int = 0


@structures.tracked
@dataclass(eq=False)
class Book:
    """Everything that must not be lost. Reach what is in it through it each time: a mirror is given new containers."""

    numbers: int = 0
    traded: int = 0
    orders: dict[int, Order] = field(default_factory=structures.Dict)
    accounts: dict[str, Account] = field(default_factory=structures.Dict)
    trades: Any = field(default_factory=lambda: structures.Deque((), 100))


class Refused(Exception):
    """A request that can't be carried out. Nothing has changed."""


class Exchange:
    """Carries requests out on a book; each changes the book completely or not at all."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self._waiting: dict[tuple[int, int], deque[int]] = {}
        self._prices: dict[int, list[int]] = {1: [], -1: []}
        self._verbs: dict[str, tuple[int, Callable[..., str]]] = {
            "BUY": (3, self._buy),
            "SELL": (3, self._sell),
            "CANCEL": (2, self._cancel),
            "TOP": (0, self._top),
            "LAST": (0, self._last),
            "ACCOUNT": (1, self._account),
            "CHECK": (0, self._check),
        }

    def look_through(self) -> None:
        """Work out from the book which orders wait where; to be called before the first request."""
        self._waiting = {}
        self._prices = {1: [], -1: []}
        for number in sorted(self.book.orders):
            self._put_into_line(number)

    def answer(self, line: str) -> str:
        """Carry out one request."""
        verb, *words = line.split() or [""]
        if verb not in self._verbs:
            return f"NO {verb[:20] or 'an empty line'} is none of {', '.join(self._verbs)}"
        count, act = self._verbs[verb]
        if len(words) != count:
            return f"NO {verb} has {count} arguments"
        try:
            return act(*words)
        except Refused as refused:
            return f"NO {refused}"

    # What changes the book.

    def _buy(self, owner: str, price: str, quantity: str) -> str:
        return self._place(owner, 1, _number(price), _number(quantity))

    def _sell(self, owner: str, price: str, quantity: str) -> str:
        return self._place(owner, -1, _number(price), _number(quantity))

    def _place(self, owner: str, side: int, price: int, quantity: int) -> str:
        if not _NAME.fullmatch(owner):
            raise Refused("a name is 1 to 32 of a-z, 0-9, -")
        book = self.book
        account = book.accounts.setdefault(owner, Account())
        account.orders += 1
        account.asked += quantity
        book.numbers += 1
        number = book.numbers
        still_open, trades = self._match(owner, side, price, quantity)
        if still_open:
            book.orders[number] = (owner, side, price, still_open)
            self._put_into_line(number)
        return " ".join([f"OK {number} {still_open}", *trades])

    def _match(self, owner: str, side: int, limit: int, wanted: int) -> tuple[int, list[str]]:
        """Trade with those who wait on the other side, the best price and the earliest order first.

        Returns how much is still wanted, and the trades.
        """
        trades: list[str] = []
        prices = self._prices[-side]
        while wanted and prices:
            price = prices[0] if side == 1 else prices[-1]
            if side * (price - limit) > 0:
                break
            number = self._waiting[-side, price][0]
            other, _, _, offered = self.book.orders[number]
            quantity = min(wanted, offered)
            wanted -= quantity
            if quantity < offered:
                self.book.orders[number] = (other, -side, price, offered - quantity)
            else:
                self._take_out_of_line(number)
                del self.book.orders[number]
            buyer, seller = (owner, other) if side == 1 else (other, owner)
            self._settle(buyer, seller, price, quantity)
            trades.append(f"{quantity}@{price}")
        return wanted, trades

    def _settle(self, buyer: str, seller: str, price: int, quantity: int) -> None:
        book = self.book
        book.accounts[buyer].bought += quantity
        book.accounts[buyer].cash -= price * quantity
        book.accounts[seller].sold += quantity
        book.accounts[seller].cash += price * quantity
        book.traded += quantity
        book.trades.append((price, quantity, buyer, seller))

    def _cancel(self, owner: str, text: str) -> str:
        number = _number(text)
        holder, _, _, still_open = self.book.orders.get(number, ("", 0, 0, 0))
        if holder != owner:
            raise Refused(f"{owner} has no open order {number}")
        self._take_out_of_line(number)
        del self.book.orders[number]
        self.book.accounts[owner].cancelled += still_open
        return f"OK {still_open}"

    # What only looks.

    def _top(self) -> str:
        bids, offers = self._prices[1], self._prices[-1]
        best = [(1, bids[-1])] if bids else []
        best += [(-1, offers[0])] if offers else []
        found = {side: f"{price}x{self._open_at(side, price)}" for side, price in best}
        return f"OK {found.get(1, '-')} {found.get(-1, '-')}"

    def _open_at(self, side: int, price: int) -> int:
        return sum(self.book.orders[number][3] for number in self._waiting[side, price])

    def _last(self) -> str:
        if not self.book.trades:
            raise Refused("there was no trade yet")
        price, quantity, buyer, seller = self.book.trades[-1]
        return f"OK {quantity}@{price} {buyer} {seller}"

    def _account(self, owner: str) -> str:
        one = self.book.accounts.get(owner) or Account()
        return f"OK {one.orders} {one.bought} {one.sold} {one.cash}"

    def _check(self) -> str:
        """Whether everything in the book fits together, as it does between any two requests."""
        book = self.book
        still_open = dict.fromkeys(book.accounts, 0)
        for owner, _, _, quantity in book.orders.values():
            still_open[owner] += quantity
        accounts = list(book.accounts.items())
        wrong = [
            name for name, one in accounts if one.asked != one.bought + one.sold + one.cancelled + still_open[name]
        ]
        totals = {sum(one.bought for _, one in accounts), sum(one.sold for _, one in accounts), book.traded}
        if wrong or len(totals) > 1 or sum(one.cash for _, one in accounts):
            raise Refused(f"the book does not balance: {' '.join(wrong) or sorted(totals)}")
        return f"OK {book.numbers} {book.traded}"

    # What is worked out from the book.

    def _put_into_line(self, number: int) -> None:
        _, side, price, _ = self.book.orders[number]
        if (side, price) not in self._waiting:
            self._waiting[side, price] = deque()
            insort(self._prices[side], price)
        self._waiting[side, price].append(number)

    def _take_out_of_line(self, number: int) -> None:
        _, side, price, _ = self.book.orders[number]
        line = self._waiting[side, price]
        line.remove(number)
        if not line:
            del self._waiting[side, price]
            self._prices[side].remove(price)


def _number(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or not 1 <= int(text[:20]) <= LIMIT:
        raise Refused(f"{text[:20]} is not from 1 to {LIMIT}")
    return int(text)
