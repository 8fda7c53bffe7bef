"""`python -m rawdiff` is the command `rawdiff`."""

from rawdiff.cli import command

if __name__ == "__main__":
    command()
