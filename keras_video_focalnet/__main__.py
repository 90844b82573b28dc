"""`python -m keras_video_focalnet` is the command `video-focalnet`."""

from keras_video_focalnet.cli.main import main

if __name__ == "__main__":
    main(prog_name="video-focalnet")
