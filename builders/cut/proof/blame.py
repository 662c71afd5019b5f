"""Explains a wrong score: the first link between module and server that changes it, at the smallest sizes that show it.

Sizes are made as small as is cheaply possible, so that what the message says can be tried by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cleave.builders.cut.proof.agreement import ParityError
from cleave.builders.cut.proof.links import Links, other_side
from cleave.builders.cut.proof.subject import USERS_APART, Subject
from cleave.builders.cut.proof.users import (
    Lengths,
    draw_user,
    least_rows,
    lengths_of,
    padded,
    shortened,
    sizes_in_words,
    with_candidates,
)
from cleave.builders.export.fixed_sizes import what_an_example_fixed
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays
from cleave.builders.spec import Axis

EXPORTER = "torch.onnx.export wrote another function than this module's; please report it with the model"
FIXED = "write it for any size, with torch.where and masks instead of `if` and numbers that are made of sizes"
CUT = "the cut is wrong for this graph; please report it with the model"
USERS = "users see each other; keep row i of every tensor that of user i"
CANDIDATES = "candidates see each other, or the history sees them; mask attention so that neither reads a candidate"
PLACES = "a score depends on its candidate's place in the list; give candidates no positions and no neighbours"
UNSTEADY = "scores differ from one run to the next"

OTHER_SIDE = (1, 2, 5, 16, 17, 40)
"""Lengths at which padding is tried on the other side, before that is said to be the remedy."""


class Blame:
    """Explains the wrong scores of one subject."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.ranker = subject.ranker
        self.links = Links(subject)
        self.seed = seed

    def of_user(self, way: str, users: Sequence[Arrays], row: int, order: AnyArray, sizes: Lengths) -> ParityError:
        """Why one user of a batch is served wrongly.

        Args:
            way: what is served, as in `Subject.served`.
            order: the candidates that were compared.
            sizes: what all users were padded to.
        """
        user = with_candidates(self.ranker, users[row], order)
        if self.links.exported(user):
            return self.of_exporter(user)
        if self.links.padded(user, sizes):
            return self.of_padding(user, sizes)
        if self.links.batched([users[row]], 0, order, sizes):
            return self.of_candidates(users[row], order)
        if self.links.batched(users, row, order, sizes):
            return self.of_batch(users, row, order, sizes)
        every = np.arange(self.count(users[row]))
        return self.error(
            f"{way} (batch {len(users)}, {sizes_in_words(sizes)})",
            self.links.batched(users, row, every, sizes, way),
            USERS if way == USERS_APART else CUT,
        )

    def of_list(self, way: str, user: Arrays, sizes: Lengths) -> ParityError:
        """Why the candidates of one user are scored otherwise in this list than each alone."""
        every = np.arange(self.count(user))
        if self.links.listed(user, every):
            return self.of_candidates(user, every)
        return self.of_user(way, [user], 0, every, sizes)

    def of_exporter(self, user: Arrays) -> ParityError:
        for axis in self.ranker.axes:
            user = self.shortest(axis, user, self.links.exported)
        where = f"ONNX against torch ({sizes_in_words(lengths_of(self.ranker, user))})"
        fixed = what_an_example_fixed(self.ranker)
        return self.error(where, self.links.exported(user), EXPORTER if fixed is None else f"{fixed}; {FIXED}")

    def of_padding(self, user: Arrays, sizes: Lengths) -> ParityError:
        lengths = lengths_of(self.ranker, user)
        larger = {axis.name: sizes[axis.name] for axis in self.ranker.axes if lengths[axis.name] < sizes[axis.name]}
        for axis in self.ranker.axes:
            if axis.name in larger and self.links.padded(user, only := {axis.name: larger[axis.name]}):
                if axis == self.ranker.candidate_axis:  # padding is one more candidate
                    return self.of_candidates(padded(self.ranker, user, only), np.arange(lengths[axis.name]))
                return self.of_padded_axis(axis, user, larger[axis.name])
        axes = " and ".join(map(repr, larger))
        before = sizes_in_words({name: lengths[name] for name in larger})
        return self.error(
            f"{before} padded to {sizes_in_words(larger)}",
            self.links.padded(user, sizes),
            f"padding of {axes} together changes scores, where each alone changes none; mask rows that hold the pad "
            "value in each, and let no axis decide by whether another is padded",
        )

    def of_padded_axis(self, axis: Axis, user: Arrays, size: int) -> ParityError:
        for other in self.ranker.axes:
            user = self.shortest(other, user, lambda user: self.links.padded(user, {axis.name: size}))
        length = lengths_of(self.ranker, user)[axis.name]
        size = smallest(max(axis.min, length + 1), size, lambda size: bool(self.links.padded(user, {axis.name: size})))
        pads = ", ".join(f"{tensor.pad} in {tensor.name!r}" for tensor in self.ranker.inputs if axis in tensor.axes)
        remedy = f"mask rows that hold the pad value ({pads}), and average over real rows only"
        if self.right_on_the_other_side(axis, user, size):
            side = other_side(axis)
            remedy = (
                f"padding on the {side} of the rows changes none: if that is what the module is made for, write "
                f"Axis({axis.name!r}, ..., padding_side={side!r}); or else {remedy}"
            )
        return self.error(
            f"axis {axis.name!r} padded from {length} to {size}",
            self.links.padded(user, {axis.name: size}),
            f"padding of {axis.name!r} changes scores, so it cannot be padded to buckets; {remedy}",
        )

    def right_on_the_other_side(self, axis: Axis, user: Arrays, size: int) -> bool:
        """Whether no score changes where the axis is padded on its other side."""
        lengths = lengths_of(self.ranker, user)
        drawn = ({**lengths, axis.name: length} for length in OTHER_SIDE if axis.min_real <= length <= axis.max)
        tried = [user, *(draw_user(self.ranker, each, self.seed) for each in drawn)]
        return not any(
            self.links.padded_otherwise(each, axis, padding)
            for each in tried
            for padding in {size, axis.bucket(lengths_of(self.ranker, each)[axis.name])}
        )

    def of_candidates(self, user: Arrays, order: AnyArray) -> ParityError:
        """How the rest of a list changes a candidate's score, in the shortest list that shows it.

        Args:
            user: with the list, in which the module or the graph scores some otherwise than one by one.
            order: the candidates that were compared.
        """
        axis = self.ranker.candidate_axis

        def said(count: int) -> str | None:
            first = shortened(self.ranker, user, {axis.name: count})
            return self.links.listed(first, np.unique(np.append(order[order < count], count - 1)))

        if said(self.count(user)) is None:
            return self.of_exporter(user)
        shortest = smallest(1, self.count(user), lambda count: bool(said(count)))
        right = f"; lists of {shortest - 1} are right" if shortest > 2 and not said(shortest - 1) else ""
        return self.error(
            f"{shortest} candidates scored together against one by one",
            (said(shortest) or UNSTEADY) + right,
            PLACES if self.links.place_matters(user, shortest) else CANDIDATES,
        )

    def of_batch(self, users: Sequence[Arrays], row: int, order: AnyArray, sizes: Lengths) -> ParityError:
        def said(others: Sequence[Arrays]) -> str | None:
            return self.links.batched([users[row], *others], 0, order, sizes)

        others = [user for place, user in enumerate(users) if place != row]
        alone = next((other for other in others if said([other])), None)
        beside = others if alone is None else [alone]
        who = "; ".join(sizes_in_words(lengths_of(self.ranker, user)) for user in beside)
        lengths = sizes_in_words(lengths_of(self.ranker, users[row]))
        return self.error(f"a user ({lengths}) in one batch with {len(beside)} other ({who})", said(beside), USERS)

    def shortest(self, axis: Axis, user: Arrays, said: Callable[[Arrays], str | None]) -> Arrays:
        """The user with few rows along one axis, of whom something is still said."""

        def with_rows(length: int) -> Arrays:
            return shortened(self.ranker, user, {axis.name: length})

        length = lengths_of(self.ranker, user)[axis.name]
        return with_rows(smallest(least_rows(self.ranker, axis), length, lambda length: bool(said(with_rows(length)))))

    def count(self, user: Arrays) -> int:
        return lengths_of(self.ranker, user)[self.ranker.candidate_axis.name]

    def error(self, where: str, said: str | None, remedy: str) -> ParityError:
        return ParityError(f"ranker {self.ranker.name!r}: {where}: {said or UNSTEADY}; {remedy}")


def smallest(least: int, known: int, fails: Callable[[int], bool]) -> int:
    """A small number for which `fails` is true, found by few calls: `known`, which is one, or below.

    It is the smallest if that is one of the first three, or if every number above it fails, too.
    """
    for number in range(least, min(least + 3, known)):
        if fails(number):
            return number
    low = min(least + 2, known - 1)
    while known - low > 1:
        middle = (low + known) // 2
        low, known = (low, middle) if fails(middle) else (middle, known)
    return known
