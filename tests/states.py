"""States of a Video-FocalNet in the reference's names, for tests: read from a file, from a model, and back."""

from keras_video_focalnet.models import building
from keras_video_focalnet.models.network import find_network
from keras_video_focalnet.weights import loading


def read_state(path):
    return building.read_weights(path, "VideoFocalNetT")


def open_weights(architecture, weights):
    layout = building.layout_of(architecture or "VideoFocalNetT")
    return loading.open_weights(weights, layout if architecture else loading.Layout(None, layout.reader))


def reference_slots(model):
    return find_network(model).slots()


def state_of(model):
    return find_network(model).state()


def load_state(model, state, origin="state", **options):
    return find_network(model).load_state(state, origin, **options)
