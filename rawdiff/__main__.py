"""`python -m rawdiff` is the command `rawdiff`."""

from rawdiff.cli.main import command

if __name__ == "__main__":
    command()
