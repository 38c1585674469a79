"""The API's description for programs (OpenAPI 3.1), and as a page for people."""

import json
from collections.abc import Sequence
from typing import Any

from detr_lite import __version__
from detr_lite.serve.limits import Limits
from detr_lite.viz.pages.html import element, join

LINK_HELP = 'With any value, the answer is {"url": ...} of the page, which is kept for a while.'

REFUSALS = {
    "401": "The token is missing or wrong.",
    "408": "The request did not arrive in time.",
    "413": "The picture has too many bytes or pixels.",
    "422": "It is not a picture that can be read, or a parameter is wrong.",
    "429": "Too many requests are waiting; try again after a moment.",
    "503": "No answer in time, or the server is stopping.",
}


def openapi_document(limits: Limits, models: Sequence[str]) -> dict[str, Any]:
    """The description of every path."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "detr_lite", "version": __version__, "description": _limits_text(limits)},
        "paths": {
            "/v1/detect": {
                "post": _picture_operation(
                    "Objects in a picture",
                    models,
                    [
                        {
                            "name": "threshold",
                            "in": "query",
                            "schema": {"type": "string", "default": "best"},
                            "description": 'Least score, from 0 to 1; "best" is the score of highest F1 of each class '
                            "on the validation images.",
                        }
                    ],
                    {"application/json": {"schema": {"$ref": "#/components/schemas/Detections"}}},
                )
            },
            "/v1/explain": {
                "post": _picture_operation(
                    "The attention explorer of a picture, as one HTML page",
                    models,
                    [
                        {
                            "name": "name",
                            "in": "query",
                            "schema": {"type": "string"},
                            "description": "Title of the picture.",
                        },
                        {"name": "link", "in": "query", "schema": {"type": "string"}, "description": LINK_HELP},
                    ],
                    {"text/html": {}},
                )
            },
            "/v1/models": {
                "get": {
                    "summary": "The models with their categories and score thresholds",
                    "responses": {"200": {"description": "A list of models.", "content": {"application/json": {}}}},
                }
            },
            "/health": {
                "get": {
                    "summary": "Whether the server runs, and how many requests it is answering",
                    "responses": {"200": {"description": "It runs.", "content": {"application/json": {}}}},
                }
            },
        },
        "components": {"schemas": {"Detections": _DETECTIONS, "Error": _ERROR}},
    }


def openapi_page(limits: Limits, models: Sequence[str]) -> str:
    """The same as a page, with a command to copy for each path."""
    document = openapi_document(limits, models)
    sections = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            rows = [
                element("tr", element("th", element("code", each["name"])), element("td", each.get("description", "")))
                for each in operation.get("parameters", ())
            ]
            codes = [
                element("tr", element("th", code), element("td", answer["description"]))
                for code, answer in operation["responses"].items()
            ]
            body = " --data-binary @photo.jpg" if method == "post" else ""
            query = "?threshold=0.5" if path == "/v1/detect" else ""
            command = f"curl{body} 'http://127.0.0.1:8000{path}{query}'"
            sections.append(
                element(
                    "section",
                    element("h2", element("code", f"{method.upper()} {path}")),
                    element("p", operation["summary"]),
                    element("pre", element("code", command)),
                    *([element("table", element("caption", "Parameters"), *rows)] if rows else []),
                    element("table", element("caption", "Answers"), *codes),
                    class_="card",
                )
            )
    example = element("section", element("h2", "An answer"), element("pre", element("code", _EXAMPLE)), class_="card")
    head = join(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", "detr_lite API"),
        element("link", rel="stylesheet", href="/theme.css"),
        element("link", rel="stylesheet", href="/serve.css"),
    )
    header = element("header", element("h1", "detr_lite API"), element("a", "Open the page", href="/"))
    links = element("p", _limits_text(limits), " ", element("a", "openapi.json", href="/v1/openapi.json"))
    body = element("body", header, element("main", links, *sections, example, class_="api"))
    return f"<!doctype html>\n{element('html', element('head', head), body, lang='en')}\n"


def _picture_operation(
    summary: str, models: Sequence[str], parameters: list[dict[str, Any]], content: dict[str, Any]
) -> dict[str, Any]:
    model = {
        "name": "model",
        "in": "query",
        "schema": {"type": "string", "enum": list(models), "default": models[0]},
        "description": f"Which model: {', '.join(models)}.",
    }
    picture = {"schema": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": summary,
        "parameters": [model, *parameters],
        "requestBody": {"required": True, "content": {"image/*": picture, "multipart/form-data": form}},
        "responses": {
            "200": {"description": summary + ".", "content": content},
            **{code: {"description": text, "content": error} for code, text in REFUSALS.items()},
        },
    }


def _limits_text(limits: Limits) -> str:
    return (
        f"A request has at most {limits.megabytes:g} MB and {limits.megapixels:g} million pixels, and is answered "
        f"within {limits.seconds:g} seconds; at most {limits.waiting} wait at a time. Pictures are not kept."
    )


_DETECTIONS = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "image": {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
            "description": "Size of the picture as a viewer shows it.",
        },
        "annotations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "integer"},
                    "category_id": {"type": "integer"},
                    "category_name": {"type": "string"},
                    "bbox": {
                        "type": "array",
                        "items": {"type": "number"},
                        "description": "[x, y, width, height] in pixels",
                    },
                    "score": {"type": "number"},
                    "area": {"type": "number"},
                    "iscrowd": {"type": "integer"},
                },
            },
        },
        "threshold": {"type": ["number", "string"]},
    },
}
_ERROR = {"type": "object", "properties": {"error": {"type": "string", "description": "One line."}}}
_EXAMPLE = json.dumps(
    {
        "model": "coco_small",
        "image": {"width": 320, "height": 240},
        "annotations": [
            {
                "id": 1,
                "category_id": 3,
                "category_name": "heart",
                "bbox": [12.5, 30.25, 64.0, 58.5],
                "score": 0.93,
                "area": 3744.0,
                "iscrowd": 0,
            }
        ],
        "threshold": "best",
    },
    indent=2,
)
