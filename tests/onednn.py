"""Whether PyTorch's oneDNN product is there to be tested."""

import keras


def onednn_is_there():
    if keras.backend.backend() != "torch":
        return False
    from keras_video_focalnet.ops.autodiff.formulation import on_cpu
    from keras_video_focalnet.ops.linear import _onednn_operation

    return _onednn_operation() is not None and on_cpu(keras.ops.ones(1))
