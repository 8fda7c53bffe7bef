"""Processes that answer, hang or die; with no imports that take long, because they are spawned."""

import os
import time
from multiprocessing.connection import Connection


def echo(connection: Connection, prefix: str) -> None:
    """Answers a text; never where it is `hang`, and dies of `die`."""
    connection.send(None)
    while True:
        question = connection.recv()
        if question == "hang":
            time.sleep(1000)
        if question == "die":
            os._exit(1)
        connection.send(prefix + question)


def never(connection: Connection, setting: None) -> None:
    """Ends before it is ready."""
