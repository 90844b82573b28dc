"""A made-up architecture as data: its builders, its published weights and its recipe. `network.py` has its layers."""

from keras_video_focalnet.models.registry import Builder, Entry, Family

SHAPE = (6, 40, 56, 3)
BUILDERS = Builder("ToySmall", ("toy_small",), "shapes", SHAPE), Builder("ToyLarge", ("toy_large",), None, SHAPE)
SHAPES = Entry(
    "ToySmall",
    "shapes",
    "Moving shapes",
    classes=3,
    labels=("circle", "square", "star"),
    input_shape=SHAPE,
    url="https://toy.example/toy_small_shapes.pth",
)
RECIPE = {"optimizer": "muon", "epochs": 2, "warmup_epochs": 0.0, "num_frames": None, "size": None}
FAMILY = Family("toy", "Toy", f"{__name__}.network", "Toy", BUILDERS, entries=(SHAPES,), recipes={"shapes": RECIPE})
