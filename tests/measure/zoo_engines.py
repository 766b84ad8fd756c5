"""Four engines of the zoo from an H100: what the inspector printed of them, and what the reader made of it."""

import json

from engine_samples import inspected, text, with_sources

# By model: what the inspector printed, and the nodes that it was built from.
FILES = {
    "resnet18": ("resnet18_fp16_h100.json", "resnet18_fp16_h100"),
    "mobilenet_v3_small": ("mobilenet_v3_small_fp16_h100.json.gz", "mobilenet_v3_small_fp16_h100"),
    "vit_b_16": ("vit_b_16_fp16_h100.json.gz", "vit_b_16_fp16_h100"),
    "transformer": ("transformer_fp16_h100.json.gz", "transformer_fp16_rtx_1.6"),
}
NODE = r"\[ONNX Layer: ([^\]]+)\]"


def raw(name):
    return text(FILES[name][0])


def printed_layers(name):
    return json.loads(raw(name))["Layers"]


def census_of(name):
    file, graph = FILES[name]
    return with_sources(inspected(file), graph)


def uses(layer):
    return [*layer.inputs, *layer.outputs]
