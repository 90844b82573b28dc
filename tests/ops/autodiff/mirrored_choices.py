"""Prints, as JSON, what the replicas of a strategy on two CPU devices find forced: run by a test.

python -m tests.ops.autodiff.mirrored_choices
"""

import json
import os
import threading

os.environ["KERAS_BACKEND"] = "tensorflow"

import tensorflow as tf

from keras_video_focalnet.ops.autodiff.formulation import force, forced_choices


def main():
    """Prints what each replica found, by the way it was run."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    seen = {}

    def run(name, trace=tf.function, **choices):
        found = seen.setdefault(name, [])

        def find():
            found.append(dict(forced_choices()))
            return tf.constant(1.0)

        def replica():
            # Replicas wait for each other inside: what one forces must not reach the other, nor stay.
            with force(**choices):
                tf.distribute.get_replica_context().all_reduce("sum", tf.constant(1.0))
                return tf.function(find)()

        trace(lambda: strategy.run(replica))()

    with force(linear="library"):
        run("graph")
        run("eager", trace=lambda function: function)
        run("nested", temporal_conv="winograd")
        thread = threading.Thread(target=run, args=("beside",))
        thread.start()
        thread.join()
    run("after")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
