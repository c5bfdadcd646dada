"""The lab: two networks that a reader trains on the page, their images, and the cases they start from."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bn_tutorial import load_cifar10

#: Images that the page carries, for training and for testing.
TRAIN, TEST = 500, 250
BLOCK = 4  # pixels; each block of so many by so many becomes one
NOTE = "The lab, in which two networks train before your eyes, needs JavaScript. The text says what it shows."


def images() -> dict[str, Any]:
    """Return the images of the lab: the first of the bundled sample, pooled, ready for JSON."""
    data = load_cifar10("sample")
    pixels = np.concatenate([data.x_train[:TRAIN], data.x_test[:TEST]])
    labels = np.concatenate([data.y_train[:TRAIN], data.y_test[:TEST]])
    count, side, _, colours = pixels.shape
    small = side // BLOCK
    blocks = pixels.reshape(count, small, BLOCK, small, BLOCK, colours).mean((2, 4))
    return {
        "source": data.source,
        "classes": len(data.classes),
        "train": TRAIN,
        "test": TEST,
        "labels": "".join(map(str, labels)),
        "pixels": base64.b64encode(np.rint(blocks).astype(np.uint8).tobytes()).decode(),
    }


def write_images(app: Sphinx) -> None:
    """Put the images where the page finds them."""
    if app.builder.format == "html":
        file = Path(app.outdir, "_static", "lab", "images.js")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"const labImages = {json.dumps(images())};\n", "utf-8")


class Lab(SphinxDirective):
    """``{lab}``: the place of the lab, and where its images are from."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(__file__)
        place = f'<div class="interactive" id="lab"><noscript><p>{NOTE}</p></noscript></div>'
        told = images()
        caption = (
            f"The images: the first {TRAIN} for training and {TEST} for testing of the "
            f"{told['source']} of CIFAR-10, each block of {BLOCK} × {BLOCK} pixels averaged and "
            f"rounded to whole numbers; {len(told['pixels']) / 1000:.0f} kB, which come with the page."
        )
        source = nodes.paragraph("", caption, classes=["lab-images"])
        return [nodes.raw("", place, format="html"), source]


class LabCase(SphinxDirective):
    """``{lab-case} name``: what is ill, as text; and the settings that make it so, and cure it."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "settings": directives.unchanged_required,  # name=value name=value …
        "cure": directives.unchanged_required,  # name=value, one
        "tell": directives.unchanged_required,  # the measurement that tells
    }

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        data = {"name": self.arguments[0], **self.options}
        if missing := self.option_spec.keys() - data.keys():
            raise self.error(f"the case {data['name']} lacks {', '.join(sorted(missing))}.")
        if len(data["cure"].split()) != 1:
            raise self.error(f"the case {data['name']} must have one setting as its cure.")
        attributes = " ".join(f'data-{key}="{value}"' for key, value in data.items())
        opened = nodes.raw("", f'<div class="lab-case" {attributes}>', format="html")
        content = self.parse_content_to_nodes()
        return [opened, *content, nodes.raw("", "</div>", format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("lab", Lab)
    app.add_directive("lab-case", LabCase)
    app.connect("builder-inited", write_images)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
