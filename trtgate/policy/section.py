"""What every section of a policy is: frozen, and closed to keys that it does not know."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A table of trtgate.toml. An unknown key, a NaN or an infinity is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Reason = Annotated[str, Field(min_length=1, description="why, for whoever meets the entry")]
