"""The subcommand that ranks the MovieLens catalogue for one user by a served model."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from cleave.builders.formatting import text_table
from cleave.builders.names import USER
from cleave.builders.predict.arms import DEFAULT, TRITON_ARMS
from cleave.clients.client import RankerClient
from cleave.clients.errors import InvalidRequestError, NotFoundError, UnavailableError
from cleave.clients.ranking import Ranking
from cleave.clients.signature import Axis, ModelSignature
from cleave.options import add_data, add_json, add_url, tls_from_options

if TYPE_CHECKING:
    from cleave.builders.training.data import MovieLens

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

ARMS = {name: arm for name, arm in TRITON_ARMS.items() if not arm.row_per_candidate}
"""The arms that score a list of candidates at once."""

DEADLINE_S = 60.0


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    rank = commands.add_parser(
        "rank",
        help="rank the MovieLens catalogue for a user on a running server",
        description="Rank the whole MovieLens catalogue for a real user on a running server (see `cleave serve`).",
    )
    rank.add_argument("name", metavar="NAME", help="a served ranker, such as append")
    rank.add_argument("--user", type=int, required=True, metavar="ID", help="the user, by the data set's id")
    rank.add_argument("--top", type=_positive, default=10, metavar="N", help="how many films to print (default: 10)")
    add_url(rank)
    rank.add_argument("--arm", choices=ARMS, default=DEFAULT, help=f"how it is served (default: {DEFAULT})")
    rank.add_argument("--by-id", action="store_true", help="send no history: the server knows the user from before")
    add_data(rank)
    add_json(rank, "the films in order, with their scores")
    rank.set_defaults(run=rank_catalogue)


def rank_catalogue(options: argparse.Namespace) -> int:
    """Print the first `--top` films.

    Raises:
        DataError: no such data or user.
        RankerError: the server does not answer, or not to this model.
    """
    from cleave.builders.training import data as datasets  # noqa: PLC0415 - polars is slow to import

    arm = ARMS[options.arm]
    if options.by_id and not arm.keeps_summaries:
        kept = " or ".join(name for name, each in ARMS.items() if each.keeps_summaries)
        raise InvalidRequestError(f"--by-id: expected --arm {kept}, got {options.arm}; leave out one of them")
    data = datasets.load(options.data)
    row = data.row_of_user(options.user)
    with RankerClient(options.url, arm.model(options.name), tls=tls_from_options(options)) as client:
        try:
            max_events = _max_events(client.signature(deadline=DEADLINE_S))
            ranking = client.rank(
                data.candidate_inputs(),
                user_id=options.user if arm.keeps_summaries else None,
                history=None if options.by_id else data.user_inputs(row, max_events=max_events),
                request=data.request_inputs(row),
                deadline=DEADLINE_S,
            )
        except (NotFoundError, UnavailableError) as error:
            remedy = "; leave out --by-id to send the history" if options.by_id else ""
            raise type(error)(f"{error}; `cleave serve {options.name}` starts a server of it{remedy}") from error
    num_events = data.num_events(row)
    if ranking.summary_status is not None:
        print(f"summary: {ranking.summary_status}", file=sys.stderr)
    if num_events > max_events and not options.by_id:
        print(f"history cut to the most recent {max_events} of {num_events} events", file=sys.stderr)
    films = _first_films(data, row, ranking, options.top)
    if options.json:
        result = {
            "model": client.model,
            "data": data.name,
            "user": options.user,
            "summary_status": ranking.summary_status,
            "history_events": None if options.by_id else min(num_events, max_events),
            "num_candidates": len(ranking.scores),
            "films": films,
        }
        print(json.dumps(result, indent=2))
    else:
        print(_table(films))
    return 0


def _max_events(signature: ModelSignature) -> int:
    """The longest history that the model takes."""
    tensors = signature.inputs_of(USER).values()
    return min((axis.max for tensor in tensors for axis in tensor.axes if isinstance(axis, Axis)), default=0)


def _first_films(data: MovieLens, row: int, ranking: Ranking, top: int) -> list[dict[str, Any]]:
    """The films of the highest scores; `rated` is the user's own rating in stars, None where there is none."""
    events = slice(data.starts[row], data.starts[row + 1])
    stars = dict(zip(data.items[events].tolist(), (data.ratings[events] / 2).tolist(), strict=True))
    # Candidate 0 is item 1: item 0 is padding.
    return [
        {
            "place": place,
            "film": int(data.item_ids[item]),
            "title": data.titles[item],
            "score": float(ranking.scores[item - 1]),
            "rated": stars.get(item),
        }
        for place, item in enumerate((ranking.order()[:top] + 1).tolist(), start=1)
    ]


def _table(films: list[dict[str, Any]]) -> str:
    rows = [
        (
            str(film["place"]),
            f"{film['score']:.4f}",
            film["title"],
            "" if film["rated"] is None else f"{film['rated']:g} stars",
        )
        for film in films
    ]
    return text_table(("place", "score", "title", "rated"), rows, "rrll")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
