"""The base class of all setting groups."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """One group of settings. Unknown fields in a file are rejected, so typos are noticed."""

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True)

    name: ClassVar[str]
