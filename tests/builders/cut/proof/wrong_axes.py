"""Rankers with more than one history, an axis of the request, padding in front, or inputs that nothing reads."""

from __future__ import annotations

import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from tests.builders.cut.proof.readers import CANDIDATES, HISTORY, NUM_ITEMS, WIDTH, Reader, dot, masked_mean

LIKES = Axis("likes", min=1, opt=16, max=150)
TAGS = Axis("tags", min=1, opt=4, max=40)
RECENT = Axis("recent", min=1, opt=16, max=100)


class TwoHistories(Reader):
    """Views and likes, each with its mask."""

    def forward(  # type: ignore[override]
        self, history_items: Values, liked_items: Values, candidate_items: Values
    ) -> Values:
        user = self.both(history_items, self.items(history_items), liked_items, self.items(liked_items))
        return dot(torch.tanh(self.mix(user)), self.items(candidate_items))

    def both(self, viewed: Values, views: Values, liked: Values, likes: Values) -> Values:
        return masked_mean(views, viewed != 0) - masked_mean(likes, liked != 0)


class ShareOfLikes(TwoHistories):
    """Weights both by the sizes of their axes: right only where both are full, or padded alike."""

    def both(self, viewed: Values, views: Values, liked: Values, likes: Values) -> Values:
        share = views.shape[1] / (views.shape[1] + likes.shape[1])
        return share * masked_mean(views, viewed != 0) - (1 - share) * masked_mean(likes, liked != 0)


class Interplay(TwoHistories):
    """Padded views count the last like: wrong only where one axis is padded and the other full."""

    def both(self, viewed: Values, views: Values, liked: Values, likes: Values) -> Values:
        padded = (viewed == 0).any(1, keepdim=True)
        full = (liked != 0).all(1, keepdim=True)
        return super().both(viewed, views, liked, likes) + (padded & full) * views.sum(1)


class CrossAttention(TwoHistories):
    """Likes read the views without a mask, and are then masked themselves."""

    masked = False

    def both(self, viewed: Values, views: Values, liked: Values, likes: Values) -> Values:
        logits = likes @ views.transpose(1, 2)
        if self.masked:
            logits = logits.masked_fill((viewed == 0).unsqueeze(1), -1e9)
        return masked_mean(logits.softmax(-1) @ views, liked != 0)


class MaskedCrossAttention(CrossAttention):
    masked = True


class Longer(TwoHistories):
    """Which history is the longer one, by the sizes of the axes."""

    def both(self, viewed: Values, views: Values, liked: Values, likes: Values) -> Values:
        longer = torch.ones_like(viewed[0]).sum() > torch.ones_like(liked[0]).sum()
        return torch.where(longer, views.sum(1), likes.sum(1))


class LongerByEvents(TwoHistories):
    def both(self, viewed: Values, views: Values, liked: Values, likes: Values) -> Values:
        longer = (viewed != 0).sum(1, keepdim=True) > (liked != 0).sum(1, keepdim=True)
        return torch.where(longer, views.sum(1), likes.sum(1))


def two_histories(module: nn.Module) -> Ranker:
    return Ranker(
        name="two_histories",
        module=module,
        user=(
            Tensor("history_items", "int64", (HISTORY,), high=NUM_ITEMS),
            Tensor("liked_items", "int64", (LIKES,), high=NUM_ITEMS),
        ),
        candidate=(Tensor("candidate_items", "int64", (CANDIDATES,), high=NUM_ITEMS),),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
    )


class Session(Reader):
    """A list of items of this session comes with the request."""

    def forward(  # type: ignore[override]
        self, history_items: Values, session_items: Values, candidate_items: Values
    ) -> Values:
        user = masked_mean(self.items(history_items), history_items != 0)
        user = user + self.session(session_items, self.items(session_items))
        return dot(torch.tanh(self.mix(user)), self.items(candidate_items))

    def session(self, ids: Values, rows: Values) -> Values:
        return masked_mean(rows, ids != 0)


class MeanOfSession(Session):
    def session(self, ids: Values, rows: Values) -> Values:
        return rows.mean(1)


class LastOfSession(Session):
    def session(self, ids: Values, rows: Values) -> Values:
        return rows[:, -1]


def with_session(module: nn.Module) -> Ranker:
    return Ranker(
        name="session",
        module=module,
        user=(Tensor("history_items", "int64", (HISTORY,), high=NUM_ITEMS),),
        request=(Tensor("session_items", "int64", (RECENT,), high=NUM_ITEMS),),
        candidate=(Tensor("candidate_items", "int64", (CANDIDATES,), high=NUM_ITEMS),),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
    )


class Tagged(Reader):
    """Every candidate has tags, whose number varies; all candidates of a list have room for as many."""

    def forward(self, history_items: Values, candidate_tags: Values) -> Values:
        rows = self.items(candidate_tags)
        read = self.read_tags(candidate_tags.flatten(0, 1), rows.flatten(0, 1)).reshape(*rows.shape[:2], WIDTH)
        user = self.user_of(history_items, self.items(history_items))
        return dot(torch.tanh(self.mix(user)), read)

    def read_tags(self, ids: Values, rows: Values) -> Values:
        return masked_mean(rows, ids != 0)


class MeanOfTags(Tagged):
    def read_tags(self, ids: Values, rows: Values) -> Values:
        return rows.mean(1)


class LastTag(Tagged):
    def read_tags(self, ids: Values, rows: Values) -> Values:
        return rows[:, -1]


def with_tags(module: nn.Module) -> Ranker:
    return Ranker(
        name="tags",
        module=module,
        user=(Tensor("history_items", "int64", (HISTORY,), high=NUM_ITEMS),),
        candidate=(Tensor("candidate_tags", "int64", (CANDIDATES, TAGS), high=NUM_ITEMS),),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
    )


class Profile(nn.Module):
    """A user without any axis."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH)

    def forward(self, profile: Values, candidate_items: Values) -> Values:
        return dot(self.user_of(profile), self.items(candidate_items))

    def user_of(self, profile: Values) -> Values:
        return torch.tanh(profile)


class ProfileOfBatch(Profile):
    def user_of(self, profile: Values) -> Values:
        return torch.tanh(profile - profile.mean(0, keepdim=True))


class ProfileOfFirst(Profile):
    """Everybody is scored as the first of the batch."""

    def user_of(self, profile: Values) -> Values:
        return profile[:1].expand(len(profile), -1)


def without_axes(module: nn.Module) -> Ranker:
    return Ranker(
        name="profile",
        module=module,
        user=(Tensor("profile", "float32", (WIDTH,)),),
        candidate=(Tensor("candidate_items", "int64", (CANDIDATES,), high=NUM_ITEMS),),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
    )


WRONG = {kind.__name__: kind for kind in (ShareOfLikes, Interplay, CrossAttention, Longer)}
RIGHT = {kind.__name__: kind for kind in (TwoHistories, MaskedCrossAttention, LongerByEvents)}
WRONG_REQUESTS = {kind.__name__: kind for kind in (MeanOfSession, LastOfSession)}
RIGHT_REQUESTS = {kind.__name__: kind for kind in (Session,)}
WRONG_TAGS = {kind.__name__: kind for kind in (MeanOfTags, LastTag)}
RIGHT_TAGS = {kind.__name__: kind for kind in (Tagged,)}
WRONG_PROFILES = {kind.__name__: kind for kind in (ProfileOfBatch, ProfileOfFirst)}
RIGHT_PROFILES = {kind.__name__: kind for kind in (Profile,)}
