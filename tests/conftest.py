import os

# Before anything imports Keras: the suite runs once a backend, each in a process of its own.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
