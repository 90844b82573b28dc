"""`video-focalnet app` with a small model that compares videos with names, told which file to note connections in.

    python -m tests.app.server CONNECTIONS [OPTIONS of the command]

Each address that the process connects to, or asks for by name, is a line of the file.
"""

import socket
import sys

from keras_video_focalnet.cli.main import main
from tests.small_vita_clip import registered


def note_connections(path):
    """Writes down what addresses are connected to and what names are looked up, from now on."""

    def noting(kind, function):
        def noted(*arguments, **options):
            with open(path, "a") as file:
                file.write(f"{kind} {arguments[1:] if kind == 'connect' else arguments}\n")
            return function(*arguments, **options)

        return noted

    class Noted(socket.socket):
        connect = noting("connect", socket.socket.connect)
        connect_ex = noting("connect", socket.socket.connect_ex)

    socket.socket = Noted
    socket.getaddrinfo = noting("look up", socket.getaddrinfo)
    socket.gethostbyname = noting("look up", socket.gethostbyname)


if __name__ == "__main__":
    open(sys.argv[1], "w").close()
    note_connections(sys.argv[1])
    with registered():
        main(["app", *sys.argv[2:]])
