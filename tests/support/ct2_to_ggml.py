#!/usr/bin/env python3
"""Whisper as CTranslate2 keeps it (model.bin, version 6, f16) to a ggml file for whisper.cpp, in f16 or in q5_1.

Usage: ct2_to_ggml.py MODEL_BIN ASSETS OUT [q5_1], where ASSETS is whisper/assets of OpenAI's source package.
In f16 it needs nothing but Python: two-dimensional weights are copied as they are, the rest is a few thousand numbers.
In q5_1 every weight is looked at, and it needs numpy.
"""
import ast
import base64
import io
import struct
import sys
import zipfile

F32, F16 = 0, 4  # CTranslate2's numbers for its types
GGML_MAGIC, GGML_F32, GGML_F16, GGML_Q5_1 = 0x67676D6C, 0, 1, 7
# What the file's head calls its kind: ggml's number for it, and a thousand for each version of the quantization.
HEAD_F16, HEAD_Q5_1 = 1, 2009
Q5_1_BLOCK = 32
AUDIO_CONTEXT = 1500


class Model:
    """The weights of a model.bin, by name: shape and bytes in f16."""

    def __init__(self, file):
        self.file = file
        if self.number("I") != 6:
            sys.exit("not a model.bin of version 6")
        self.text(), self.number("I")
        self.weights = {}
        for _ in range(self.number("I")):
            name = self.text()
            shape = [self.number("I") for _ in range(self.number("B"))]
            kind = self.number("B")
            data = self.file.read(self.number("I"))
            self.weights[name] = (shape, kind, data)
        for _ in range(self.number("I")):
            alias = self.text()
            self.weights.setdefault(alias, self.weights[self.text()])

    def number(self, kind):
        return struct.unpack("<" + kind, self.file.read(struct.calcsize(kind)))[0]

    def text(self):
        return self.file.read(self.number("H"))[:-1].decode()

    def f16(self, name):
        shape, kind, data = self.weights[name]
        if kind == F32:
            numbers = struct.unpack(f"<{len(data) // 4}f", data)
            data = struct.pack(f"<{len(numbers)}e", *numbers)
        elif kind != F16:
            sys.exit(f"{name}: neither f16 nor f32")
        return shape, data


class Ggml:
    def __init__(self, file, is_small):
        self.file = file
        self.is_small = is_small

    def numbers(self, *numbers):
        self.file.write(struct.pack(f"<{len(numbers)}i", *numbers))

    def tensor(self, name, shape, data, exact):
        """Data in f16; `exact` tensors are kept in f32, as whisper.cpp wants them, and matrices alone are made small."""
        kind = GGML_F16
        if exact:
            numbers = struct.unpack(f"<{len(data) // 2}e", data)
            kind, data = GGML_F32, struct.pack(f"<{len(numbers)}f", *numbers)
        elif self.is_small and len(shape) == 2:
            kind, data = GGML_Q5_1, q5_1(data)
        self.numbers(len(shape), len(name), kind, *reversed(shape))
        self.file.write(name.encode() + data)


def q5_1(data):
    """Blocks of 32 numbers: a step and the least of them in f16, the fifth bits of all, then the other four, two a byte."""
    import numpy

    numbers = numpy.frombuffer(data, "<f2").astype("f4").reshape(-1, Q5_1_BLOCK)
    least = numbers.min(1)
    step = (numbers.max(1) - least) / 31
    inverse = numpy.where(step > 0, 1 / numpy.where(step > 0, step, 1), 0)
    steps = numpy.clip((numbers - least[:, None]) * inverse[:, None] + 0.5, 0, 31).astype("u4")
    half = Q5_1_BLOCK // 2
    blocks = numpy.empty((len(numbers), 8 + half), "u1")
    blocks[:, 0:2] = step.astype("<f2")[:, None].view("u1")
    blocks[:, 2:4] = least.astype("<f2")[:, None].view("u1")
    fifths = ((steps >> 4) << numpy.arange(Q5_1_BLOCK, dtype="u4")).sum(1, dtype="u4")
    blocks[:, 4:8] = fifths.astype("<u4")[:, None].view("u1")
    blocks[:, 8:] = (steps[:, :half] & 15) | ((steps[:, half:] & 15) << 4)
    return blocks.tobytes()


def mel_filters(assets, mels):
    """The array mel_80 of an .npz, without numpy: its header is a Python literal."""
    with zipfile.ZipFile(f"{assets}/mel_filters.npz") as archive:
        array = archive.read(f"mel_{mels}.npy")
    (length,) = struct.unpack("<H", array[8:10])
    header = ast.literal_eval(array[10 : 10 + length].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"]
    return header["shape"], array[10 + length :]


def vocabulary(assets, is_multilingual):
    name = "multilingual" if is_multilingual else "gpt2"
    with open(f"{assets}/{name}.tiktoken") as lines:
        ranked = [line.split() for line in lines if line.strip()]
    return [base64.b64decode(token) for token, _ in sorted(ranked, key=lambda pair: int(pair[1]))]


def tensors(model):
    """Names as whisper.cpp has them, with shape and data."""
    for conv in ("conv1", "conv2"):
        yield from pair(model, f"encoder.{conv}", f"encoder/{conv}")
    yield "encoder.positional_embedding", *model.f16("encoder/position_encodings/encodings")
    yield "decoder.positional_embedding", *model.f16("decoder/position_encodings/encodings")
    yield "decoder.token_embedding.weight", *model.f16("decoder/embeddings/weight")
    yield from pair(model, "encoder.ln_post", "encoder/layer_norm", ("gamma", "beta"))
    yield from pair(model, "decoder.ln", "decoder/layer_norm", ("gamma", "beta"))
    for side in ("encoder", "decoder"):
        for layer in range(layers(model, side)):
            source, target = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
            yield from attention(model, f"{target}.attn", f"{source}/self_attention", ("query", "key", "value"))
            if side == "decoder":
                # The query alone, then key and value in one.
                yield from fused(model, f"{target}.cross_attn", f"{source}/attention/linear_0", ("query",))
                yield from fused(model, f"{target}.cross_attn", f"{source}/attention/linear_1", ("key", "value"))
                yield from pair(model, f"{target}.cross_attn.out", f"{source}/attention/linear_2")
                yield from pair(model, f"{target}.cross_attn_ln", f"{source}/attention/layer_norm", ("gamma", "beta"))
            yield from pair(model, f"{target}.mlp.0", f"{source}/ffn/linear_0")
            yield from pair(model, f"{target}.mlp.2", f"{source}/ffn/linear_1")
            yield from pair(model, f"{target}.mlp_ln", f"{source}/ffn/layer_norm", ("gamma", "beta"))


def layers(model, side):
    return sum(name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/weight") for name in model.weights)


def pair(model, target, source, names=("weight", "bias")):
    yield f"{target}.weight", *model.f16(f"{source}/{names[0]}")
    yield f"{target}.bias", *model.f16(f"{source}/{names[1]}")


def attention(model, target, source, parts):
    yield from fused(model, target, f"{source}/linear_0", parts)
    yield from pair(model, f"{target}.out", f"{source}/linear_1")
    yield from pair(model, f"{target}_ln", f"{source}/layer_norm", ("gamma", "beta"))


def fused(model, target, source, parts):
    """Matrices that stand in one, one below the other."""
    (rows, columns), weight = model.f16(f"{source}/weight")
    _, bias = model.f16(f"{source}/bias")
    rows //= len(parts)
    for index, part in enumerate(parts):
        size = rows * columns * 2
        yield f"{target}.{part}.weight", [rows, columns], weight[index * size : (index + 1) * size]
        # Whisper's keys have no bias.
        if part != "key":
            yield f"{target}.{part}.bias", [rows], bias[index * rows * 2 : (index + 1) * rows * 2]


def main(model_bin, assets, out, kind="f16"):
    if kind not in ("f16", "q5_1"):
        sys.exit(f"{kind}: neither f16 nor q5_1")
    with open(model_bin, "rb") as file:
        model = Model(io.BytesIO(file.read()))
    text_context, state = model.f16("decoder/position_encodings/encodings")[0]
    words = model.f16("decoder/embeddings/weight")[0][0]
    mels = model.f16("encoder/conv1/weight")[0][1]
    heads = state // 64
    with open(out, "wb") as file:
        ggml = Ggml(file, kind == "q5_1")
        encoder, decoder = layers(model, "encoder"), layers(model, "decoder")
        sizes = (words, AUDIO_CONTEXT, state, heads, encoder, text_context, state, heads, decoder, mels)
        ggml.numbers(GGML_MAGIC, *sizes, HEAD_Q5_1 if ggml.is_small else HEAD_F16)
        shape, filters = mel_filters(assets, mels)
        ggml.numbers(*shape)
        file.write(filters)
        tokens = vocabulary(assets, words >= 51865)
        ggml.numbers(len(tokens))
        for token in tokens:
            ggml.numbers(len(token))
            file.write(token)
        for name, shape, data in tensors(model):
            if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
                shape = [shape[0], 1]
            is_exact = len(shape) < 2 or shape[-1] == 1 or name.endswith("positional_embedding")
            ggml.tensor(name, shape, data, is_exact)


main(*sys.argv[1:])
