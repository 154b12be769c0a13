"""OpenAI's embeddings API, `POST /v1/embeddings`, so that OpenAI's and compatible clients work.

https://platform.openai.com/docs/api-reference/embeddings
"""

from base64 import b64encode
from functools import partial
from typing import Literal

import msgspec

from loop.runtime.model import Model
from loop.runtime.predictor import Answer, Encode, Scored, encode
from loop.runtime.rows import BadRequest, Decoder, Rows, check_count, decode


class Texts(msgspec.Struct, frozen=True):
    """The body of a request. Other keys, such as `user`, are ignored."""

    input: str | list[str]
    model: str
    encoding_format: Literal["float", "base64"] | None = None  # by default numbers
    dimensions: int | None = None


REQUEST = msgspec.json.Decoder(Texts)


def speaks(model: Model) -> bool:
    """Whether a model supports this API: an embedding model whose only input is a text."""
    (first, *others) = model.meta.inputs
    text = first.datatype == "BYTES" and not first.listed and not first.encoded
    return model.meta.task == "embedding" and text and not others


def read(body: bytes, _: dict[bytes, bytes], model: Model, decoder: Decoder) -> tuple[Rows, Encode]:
    """Return a request's texts as rows, and a function that encodes the response, or raise BadRequest."""
    asked = decode(body, REQUEST)
    if asked.model != model.release.model:
        raise BadRequest(f"is {asked.model!r}, should be {model.release.model!r}", "model", status=404)
    if asked.dimensions not in (None, model.meta.width):
        raise BadRequest(f"is {asked.dimensions}, should be {model.meta.width}", "dimensions")
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    check_count(len(texts), decoder.max_rows, "input")
    of = decoder.inputs[0]
    rows = Rows({of.name: of.column(texts)}, [None] * len(texts), many=True, named=False)
    # `usage` counts words, because the server has no tokenizer
    return rows, partial(_encoded, asked, sum(len(text.split()) for text in texts))


def _encoded(asked: Texts, words: int, _: Rows, of: Scored) -> Answer:
    """Return the response with vectors as lists of numbers, or as base64 of little-endian float32."""
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(of.answer)]
    if asked.encoding_format == "base64":
        for each in data:
            each["embedding"] = b64encode(each["embedding"].astype("<f4")).decode()
    usage = {"prompt_tokens": words, "total_tokens": words}
    said = {"object": "list", "data": data, "model": asked.model, "usage": usage}
    return Answer(200, encode(said))
