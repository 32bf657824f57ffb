"""A user's ONNX file as a backbone: its graph is checked before anything runs it. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, shape_inference

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.architectures import Colour

MAX_BYTES = 512 * 2**20
SMALLEST, LARGEST = 32, 1024  # pixels
MAX_DIMENSION = 16_384
_STANDARD = ("", "ai.onnx")
_LOOPS = ("Loop", "Scan")
_PREFIX = "taxonomist."  # of the names in front of the network
_IMAGES = f"{_PREFIX}images"


class _Input(NamedTuple):
    name: str
    dtype: TensorProto.DataType
    shape: list[int | None]  # None: any number


def read_onnx(path: Path, size: int | None, mean: Colour, std: Colour) -> ModelProto:
    """Return the network of an ONNX file as a backbone: uint8 (n, size, size, 3) to float32 (n, d), any n.

    The file takes float32 (n, 3, size, size), red first, of which `mean` and `std` are those of colours in 0..1, or it
    takes uint8 (n, size, size, 3) and normalises itself. `size` is needed only where the file does not fix it. Raises
    ConfigError, which names what is wrong, when it is no ONNX file, is larger than `MAX_BYTES`, keeps weights in other
    files, has operators of other domains, functions or loops, or other inputs and outputs.
    """
    model = _parse(path)
    _check_operators(path, model)
    source = _only_input(path, model.graph)
    side = _side(path, source, size)
    _check_output(path, model.graph)
    if source.dtype == TensorProto.FLOAT:
        _normalise(model.graph, source.name, mean, std)
    model.graph.input.remove(next(value for value in model.graph.input if value.name == source.name))
    images = _IMAGES if source.dtype == TensorProto.FLOAT else source.name
    model.graph.input.append(helper.make_tensor_value_info(images, TensorProto.UINT8, ["n", side, side, 3]))
    return _with_dimension(path, model)


def licence_of(model: ModelProto) -> str:
    """Return the licence that the file names; "" where it names none."""
    names = ("license", "licence")
    return next((entry.value.strip()[:200] for entry in model.metadata_props if entry.key.lower() in names), "")


def _error(path: Path, problem: str, hint: str) -> ConfigError:
    return ConfigError(f"{path.name} cannot be a backbone: {problem}.", hint=hint)


def _parse(path: Path) -> ModelProto:
    if not path.is_file():
        raise ConfigError(f"There is no file {path}.", hint="Give an ONNX file, or timm:NAME for a network of timm.")
    hint = "Export the network to ONNX: torch.onnx.export(model.eval(), ..., external_data=False)."
    size = path.stat().st_size
    if size > MAX_BYTES:
        limit = MAX_BYTES // 2**20
        raise _error(path, f"it has {size / 2**20:,.0f} MB, more than {limit}", "Use a smaller network.")
    data = path.read_bytes()
    if data.startswith((b"PK\x03\x04", b"\x80")):
        raise _error(path, "it is a file of PyTorch or a pickle, which may run code", hint)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's, which has no type hints
        raise _error(path, "it is not an ONNX file", hint) from error
    if not model.graph.node:
        raise _error(path, "it has no ONNX graph", hint)
    return model


def _check_operators(path: Path, model: ModelProto) -> None:
    if model.functions:
        raise _error(path, f"it defines functions ({model.functions[0].name})", "Inline them: onnx.inliner.")
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in _STANDARD:
                raise _error(
                    path,
                    f"{node.op_type} is an operator of {node.domain}, not of ONNX",
                    "Export it with the operators of ai.onnx only.",
                )
            if node.op_type in _LOOPS:
                raise _error(path, f"{node.op_type} may take any time", "Export the network without loops.")
        if any(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data for tensor in _tensors(graph)):
            raise _error(path, "it keeps weights in another file", "Export it with external_data=False.")


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield the graph and those in the attributes of its nodes, at any depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield the tensors of a graph but those of graphs in it."""
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _only_input(path: Path, graph: GraphProto) -> _Input:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    wanted = "A backbone takes float32 (n, 3, size, size), or uint8 (n, size, size, 3), with any n."
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise _error(path, f"it has {len(inputs)} inputs ({names}), not one", wanted)
    (value,) = inputs
    source = _Input(value.name, cast(TensorProto.DataType, value.type.tensor_type.elem_type), _shape(value))
    dtype = TensorProto.DataType.Name(source.dtype).lower()
    channels = {TensorProto.FLOAT: 1, TensorProto.UINT8: 3}.get(source.dtype)
    if channels is None or len(source.shape) != 4 or source.shape[channels] not in (3, None):
        raise _error(path, f"its input {value.name} is {dtype} {_text(source.shape)}", wanted)
    if source.shape[0] is not None:
        raise _error(path, f"it takes exactly {source.shape[0]} images at once", "Export it with a dynamic batch.")
    return source


def _shape(value: ValueInfoProto) -> list[int | None]:
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]


def _text(shape: list[int | None]) -> str:
    return f"({', '.join('?' if length is None else str(length) for length in shape)})"


def _side(path: Path, source: _Input, size: int | None) -> int:
    """Return the side in pixels of the images."""
    sides = set(source.shape[2:] if source.dtype == TensorProto.FLOAT else source.shape[1:3])
    fixed = sorted(side for side in sides if side is not None)
    if len(fixed) > 1 or (fixed and size not in (None, fixed[0])):
        wanted = "a square" if size is None else f"of {size} pixels"
        raise _error(path, f"its images are {_text(source.shape)}, not {wanted}", "Export it for square images.")
    side = size or next(iter(fixed), None)
    if side is None:
        raise _error(path, "it takes images of any size", "Say which by --size.")
    if not SMALLEST <= side <= LARGEST:
        raise _error(path, f"its images have {side} pixels", f"Use {SMALLEST} to {LARGEST} pixels.")
    return side


def _check_output(path: Path, graph: GraphProto) -> None:
    wanted = "A backbone has one output, the embeddings, float32 (n, d)."
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output) or "none"
        raise _error(path, f"it has {len(graph.output)} outputs ({names}), not one", wanted)
    (output,) = graph.output
    shape, dtype = _shape(output), cast(TensorProto.DataType, output.type.tensor_type.elem_type)
    if dtype != TensorProto.FLOAT or (output.type.tensor_type.HasField("shape") and len(shape) != 2):
        name = TensorProto.DataType.Name(dtype).lower()
        raise _error(path, f"its output {output.name} is {name} {_text(shape)}", wanted)


def _normalise(graph: GraphProto, source: str, mean: Colour, std: Colour) -> None:
    """Put the conversion from uint8 (n, size, size, 3) in front of the network."""
    mean_name, std_name = f"{_PREFIX}mean", f"{_PREFIX}std"
    for name, colour in ((mean_name, mean), (std_name, std)):
        values = [255 * value for value in colour]
        graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [1, 3, 1, 1], values))
    pixels, channels, centred = (f"{_PREFIX}{name}" for name in ("pixels", "channels", "centred"))
    nodes = [
        helper.make_node("Cast", [_IMAGES], [pixels], to=TensorProto.FLOAT),
        helper.make_node("Transpose", [pixels], [channels], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", [channels, mean_name], [centred]),
        helper.make_node("Div", [centred, std_name], [source]),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)


def _with_dimension(path: Path, model: ModelProto) -> ModelProto:
    """Return the model with the length of an embedding in its output, which serving reads there."""
    output = model.graph.output[0].name
    del model.graph.output[:]
    del model.graph.value_info[:]  # they may name other sides
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, None]))
    try:
        onnx.checker.check_model(model)
        (found,) = shape_inference.infer_shapes(model).graph.output
    except Exception as error:  # the checker's and the inference's exceptions have no common base
        raise _error(
            path, f"its graph is not valid ({str(error).strip().splitlines()[0]})", "Export it again."
        ) from error
    shape = _shape(found)
    dimension = shape[1] if len(shape) == 2 else None
    if dimension is None or not 1 <= dimension <= MAX_DIMENSION:
        raise _error(
            path,
            f"its output {output} has the shape {_text(shape)}",
            f"A backbone gives embeddings (n, d) of a fixed length d of at most {MAX_DIMENSION:,}.",
        )
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", dimension]))
    return model
