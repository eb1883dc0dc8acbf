#!/usr/bin/env bash
# tf2onnx 1.17.0: a cast to float16 and back to float32 is dropped, and its rounding with it.
#
# Guess:     values rounded to float16 in TensorFlow are rounded in the converted model too: the two casts
#            are written, or something that gives the same.
# Behaviour: Both casts are written, and then the converter's own optimizer takes the first away: what is
#            left casts float32 to float32, so the values come out as they went in. TensorFlow 2.21.0
#            rounds them, and so does ONNX Runtime 1.32.0 when the two casts are in the model.
# Seen:      TensorFlow: 0.09997559 2048 3.140625
#            tf2onnx (Cast): 0.1 2049 3.14159
#            two casts in ONNX: 0.09997559 2048 3.140625
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    tf2onnx==1.17.0 tensorflow-cpu==2.21.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat >convert.py <<'PYTHON'
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnx import TensorProto, helper

values = np.array([0.1, 2049, 3.14159], np.float32)
signature = [tf.TensorSpec([None], tf.float32, name="x")]


@tf.function(input_signature=signature)
def rounded(x):
    return tf.cast(tf.cast(x, tf.float16), tf.float32)


def show(name, result):
    result = np.asarray(result)
    print(f"{name}: {' '.join(f'{value:.7g}' for value in result)}")
    return (result == values).tolist()


def run(model):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {model.graph.input[0].name: values})[0]


converted, _ = tf2onnx.convert.from_function(rounded, input_signature=signature, opset=17)
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
both = helper.make_graph(
    [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
    ],
    "both",
    [x],
    [y],
)
by_hand = helper.make_model(
    both, opset_imports=[helper.make_opsetid("", 17)], ir_version=converted.ir_version
)

same = [show("TensorFlow", rounded(values))]
operations = " ".join(node.op_type for node in converted.graph.node)
same.append(show(f"tf2onnx ({operations})", run(converted)))
same.append(show("two casts in ONNX", run(by_hand)))
raise SystemExit(same != [[False] * 3, [True] * 3, [False] * 3])
PYTHON
CUDA_VISIBLE_DEVICES=-1 TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python convert.py
